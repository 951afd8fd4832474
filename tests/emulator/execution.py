"""Computes an emulated OM, with ONNX Runtime or operator by operator, in its own precision.

Knows nothing of streams and datasets: takes the OM and where its weights lie on the card.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from tests.emulator.memory import Allocation
from tests.emulator.om import Om, OmWeight, numpy_dtype

__all__ = ["make_session"]

SMALL_BYTES: Final = 4096  # constants that may decide a shape go into the graph itself

Place = tuple[Allocation, int]  # and the address in it


def make_session(om: Om, protobuf: bytes, places: Mapping[str, Place]) -> Any:
    """What runs the OM: its method run takes names of outputs and arrays of inputs by name."""
    make = {"onnx": _onnx_session, "ge": _ge_session}[om.operators]
    return make(om, protobuf, places)


def _ge_session(om: Om, protobuf: bytes, places: Mapping[str, Place]) -> Any:
    """A graph of GE operators whose constants are views of the memory they lie in."""
    from tests.emulator.ge.graph import graph_of
    from tests.emulator.ge.proto import new_model
    from tests.emulator.ge.run import GraphSession

    constants = {
        weight.name: (_constant(places[weight.name], weight), _writes(places[weight.name]))
        for weight in om.weights
    }
    return GraphSession(graph_of(new_model(protobuf)), constants)


def _writes(place: Place) -> Callable[[], int]:
    return lambda: place[0].writes


def _onnx_session(om: Om, protobuf: bytes, places: Mapping[str, Place]) -> Any:
    """A session of ONNX Runtime whose large constants are views of the memory they lie in."""
    # Imported here: a test that never executes needs neither.
    import onnx
    import onnxruntime as ort

    from tests.emulator.npu_ops import expand_npu_ops

    graph = expand_npu_ops(onnx.load_from_string(protobuf))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # two would wait for each other in circles
    # Nothing is folded, so that every execution reads the weights where they lie.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    weights = {weight.name: weight for weight in om.weights}
    names, values = [], []
    for tensor in graph.graph.initializer:
        array = _constant(places[tensor.name], weights[tensor.name])
        if array.nbytes <= SMALL_BYTES:
            data = array.tobytes()
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
            tensor.raw_data = data
        else:
            names.append(tensor.name)
            values.append(ort.OrtValue.ortvalue_from_numpy(array))
    if names:
        options.add_external_initializers(names, values)
    return ort.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _constant(place: Place, weight: OmWeight) -> np.ndarray[Any, Any]:
    if weight.dtype == "int4":
        raise ValueError("int4 weights are compiled but not computed here")
    allocation, address = place
    flat = allocation.view(address, weight.size).view(numpy_dtype(weight.dtype))
    if weight.layout == "transposed":
        return np.ascontiguousarray(flat.reshape(weight.dims[::-1]).T)
    return flat.reshape(weight.dims)
