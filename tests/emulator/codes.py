"""Numbers of ACL: return codes and enumerations, spelled as the headers spell them.

Sources: runtime, include/external/acl; ge, inc/external/ge/ge_error_codes.h.
"""

from typing import Final

OK: Final = 0
INVALID_PARAM: Final = 100000
UNINITIALIZE: Final = 100001
REPEAT_INITIALIZE: Final = 100002
REPEAT_FINALIZE: Final = 100037
RT_PARAM_INVALID: Final = 107000
RT_INVALID_DEVICE: Final = 107001
RT_CONTEXT_NULL: Final = 107002
RT_STREAM_CONTEXT: Final = 107003
RT_FEATURE_NOT_SUPPORT: Final = 207000
RT_DEVICE_OOM: Final = 207018
RT_MODEL_EXECUTE: Final = 507011
RT_EVENT_NOT_COMPLETE: Final = 207004  # a guess: recorded, but its stream has not run
GE_PARAM_INVALID: Final = 145000
GE_MODEL_PATH_INVALID: Final = 145002
GE_MODEL_ID_INVALID: Final = 145003
GE_DYNAMIC_ADDR_INVALID: Final = 145011
GE_DYNAMIC_LENGTH_INVALID: Final = 145012
GE_DYNAMIC_BATCH_INVALID: Final = 145013
GE_MEMORY_ALLOCATION: Final = 245000

DTYPES: Final = {
    "float32": 0,
    "float16": 1,
    "int8": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 6,
    "uint16": 7,
    "uint32": 8,
    "int64": 9,
    "uint64": 10,
    "float64": 11,
    "bool": 12,
    "bfloat16": 27,
    "int4": 29,
}
FORMAT_ND: Final = 2
FORMATS: Final = frozenset({-1, 0, 1, 2, 3, 4, 29})

H2H, H2D, D2H, D2D, DEFAULT = range(5)
KINDS: Final = ("H2H", "H2D", "D2H", "D2D")
MALLOC_POLICIES: Final = frozenset(
    base | bandwidth for base in range(7) for bandwidth in (0, 0x100, 0x1000)
)

# numpy's own type numbers, which ptr_to_numpy takes; the types of C's long long come twice.
NUMPY_TYPES: Final = {
    0: "bool",
    1: "int8",
    2: "uint8",
    3: "int16",
    4: "uint16",
    5: "int32",
    6: "uint32",
    7: "int64",
    8: "uint64",
    9: "int64",
    10: "uint64",
    11: "float32",
    12: "float64",
    23: "float16",
}
