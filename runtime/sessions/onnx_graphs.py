"""Opens the ONNX graphs of a bundle with ONNX Runtime; used by the cpu and portable sessions."""

import onnxruntime as ort

from runtime.bundle import Bundle
from runtime.errors import SessionError

__all__ = ["open_graphs"]

ERRORS_ONLY = 3  # ONNX Runtime's severity: below it every removed initializer prints a line


def open_graphs(bundle: Bundle) -> dict[str, ort.InferenceSession]:
    """One InferenceSession per graph, by graph name; weights are mapped from their files.

    Raises:
        SessionError: ONNX Runtime cannot load a graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    sessions: dict[str, ort.InferenceSession] = {}
    for graph in bundle.manifest.graphs:
        try:
            sessions[graph.spec.name] = ort.InferenceSession(
                bundle.file(graph.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the bindings raise a dozen unrelated types
            raise SessionError(
                f"ONNX Runtime {ort.__version__} cannot load {graph.path}",
                got=str(error).splitlines()[0],
                next_step="compile the bundle again with this version installed",
            ) from error
    return sessions
