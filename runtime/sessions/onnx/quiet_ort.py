"""ONNX Runtime, imported here and nowhere else in the product: silent, and without telemetry.

Left to itself it writes an id of the device and a database of runs into the home directory.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded

import onnxruntime as ort

__all__ = ["FATAL_ONLY", "ort"]

FATAL_ONLY = 4  # severity: an error that it logs is raised as well
ort.set_default_logger_severity(FATAL_ONLY)  # its warnings go to stdout, into our JSON
