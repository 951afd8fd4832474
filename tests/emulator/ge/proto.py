"""ge.proto.ModelDef, made of the field numbers of ge, graph_metadef/proto/ge_ir.proto.

Only the fields that are read here; protobuf keeps the others as they are.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["GE_TYPES", "PROTO_TYPES", "new_model"]

# DataType of ge_ir.proto, as tensor descriptions say it.
PROTO_TYPES: Final = {
    1: "float32",
    2: "float16",
    3: "int8",
    4: "uint8",
    5: "int16",
    6: "uint16",
    7: "int32",
    8: "int64",
    9: "uint32",
    10: "uint64",
    11: "bool",
    12: "float64",
    27: "bfloat16",
    28: "int4",
}
# ge::DataType of inc/graph_metadef/external/graph/types.h, as attributes say it.
GE_TYPES: Final = {
    0: "float32",
    1: "float16",
    2: "int8",
    3: "int32",
    4: "uint8",
    6: "int16",
    7: "uint16",
    8: "uint32",
    9: "int64",
    10: "uint64",
    11: "float64",
    12: "bool",
    27: "bfloat16",
    29: "int4",
}

# "rule type name number" of every field; enumerations are numbers on the wire.
_MESSAGES: Final = {
    "ShapeDef": ["repeated int64 dim 1"],
    "TensorDescriptor": [
        "single string name 1",
        "single int32 dtype 2",
        "single ShapeDef shape 3",
        "single string layout 4",
        "map AttrDef attr 5",
    ],
    "TensorDef": ["single TensorDescriptor desc 1", "single bytes data 2"],
    "ListValue": [
        "repeated bytes s 2",
        "repeated int64 i 3",
        "repeated float f 4",
        "repeated bool b 5",
        "single int32 val_type 20",
    ],
    "AttrDef": [
        "oneof ListValue list 1",
        "oneof bytes s 2",
        "oneof int64 i 3",
        "oneof float f 4",
        "oneof bool b 5",
        "oneof TensorDef t 12",
        "oneof int64 dt 15",
    ],
    "OpDef": [
        "single string name 1",
        "single string type 2",
        "repeated string input 5",
        "map AttrDef attr 10",
        "repeated TensorDescriptor input_desc 33",
        "repeated TensorDescriptor output_desc 34",
    ],
    "GraphDef": [
        "single string name 1",
        "repeated string input 4",
        "repeated string output 5",
        "repeated OpDef op 6",
    ],
    "ModelDef": [
        "single string name 1",
        "single uint32 version 2",
        "repeated GraphDef graph 7",
        "map AttrDef attr 11",
    ],
}
_PACKAGE: Final = "ge.proto"
_Field = descriptor_pb2.FieldDescriptorProto


def _descriptor() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="ge_ir", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields:
            rule, kind, field, number = text.split()
            if rule == "map":
                _add_map(message, field, int(number), kind)
                continue
            added = message.field.add(name=field, number=int(number))
            added.label = _Field.LABEL_REPEATED if rule == "repeated" else _Field.LABEL_OPTIONAL
            _set_type(added, kind)
            if rule == "oneof":
                if not message.oneof_decl:
                    message.oneof_decl.add(name="value")
                added.oneof_index = 0
    return file


def _add_map(message: Any, field: str, number: int, kind: str) -> None:
    entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL)
    _set_type(key, "string")
    value = entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL)
    _set_type(value, kind)
    added = message.field.add(name=field, number=number, label=_Field.LABEL_REPEATED)
    _set_type(added, f"{message.name}.{entry.name}")


def _set_type(field: Any, kind: str) -> None:
    scalar = f"TYPE_{kind.upper()}"
    if scalar in _Field.Type.keys():  # noqa: SIM118 - it is no dict
        field.type = _Field.Type.Value(scalar)
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"


# A pool of its own, so that another ge.proto in the process is none of its business.
_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_descriptor())
_MODEL: Final = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.ModelDef"))


def new_model(data: bytes = b"") -> Any:
    """A ModelDef, parsed from bytes or empty.

    Raises:
        google.protobuf.message.DecodeError: the bytes are something else.
    """
    model = _MODEL()
    model.ParseFromString(data)
    return model
