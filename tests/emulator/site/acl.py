"""`import acl` of a subprocess whose PYTHONPATH holds this directory and the root of the tree.

ACL_EMULATOR_SOC_NAME, _MEMORY_BYTES, _RESERVED_BYTES, _NUM_DEVICES, _CANN, _EXTERNAL_WEIGHT_API
and _FAIL_AT ("rt.malloc:3" or "rt.malloc:3:207018") configure it; ACL_EMULATOR_REPORT names the
JSON file that is written at the end of the process, {pid} standing for its number.
"""

import atexit
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.emulator.device import Emulator

_PREFIX = "ACL_EMULATOR_"
_READERS: dict[str, Any] = {
    "soc_name": str,
    "memory_bytes": int,
    "reserved_bytes": int,
    "num_devices": int,
    "cann": str,
    "external_weight_api": json.loads,
}


def _start() -> Emulator:
    given = {key: os.environ.get(_PREFIX + key.upper()) for key in _READERS}
    options = {key: _READERS[key](text) for key, text in given.items() if text is not None}
    emulator = Emulator(**options)
    for plan in filter(None, os.environ.get(_PREFIX + "FAIL_AT", "").split(",")):
        function, *numbers = plan.split(":")
        emulator.fail_at(function, *map(int, numbers))
    return emulator


def _report() -> None:
    path = os.environ.get(_PREFIX + "REPORT")
    if path:
        report = {
            "violations": emulator.violations,
            "leaks": emulator.leaks(),
            "freed_by_reset": emulator.freed_by_reset,
            "transfers": emulator.transfers,
            "calls": emulator.calls,
        }
        Path(path.format(pid=os.getpid())).write_text(json.dumps(report))


emulator = _start()
ctypes.CDLL = emulator.cdll(ctypes.CDLL)  # type: ignore[misc]
for _name, _module in emulator.modules().items():
    if _name == "acl":
        globals().update({k: v for k, v in vars(_module).items() if not k.startswith("__")})
    else:
        sys.modules[_name] = _module
atexit.register(_report)
