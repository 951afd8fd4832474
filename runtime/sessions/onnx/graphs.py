"""Opens the ONNX graphs of a bundle with ONNX Runtime; used by the cpu and portable sessions."""

from pathlib import Path

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle
from runtime.errors import SessionError
from runtime.sessions.base import SessionOptions
from runtime.sessions.onnx.failures import named_failures
from runtime.sessions.onnx.own_kernels import register_kernels
from runtime.sessions.onnx.quiet_ort import FATAL_ONLY, ort
from runtime.threads import usable_threads

__all__ = ["OnnxGraphs"]

# Packs the weights of several nodes at a time: on 2 cores loading takes two thirds of the time.
PACK_IN_PARALLEL = "session.prepack.enable_parallel"


class OnnxGraphs:
    """The InferenceSessions of a bundle, each opened at its first use.

    ONNX Runtime packs the weights anew for every graph, so a graph that is not used must not be
    opened.
    """

    def __init__(self, bundle: Bundle, options: SessionOptions) -> None:
        """Opens nothing yet; with a trace, `close` leaves the times of all kernels there.

        Raises:
            SessionError: the bundle needs kernels of ours that are not here.
        """
        self._bundle = bundle
        self._trace = options.trace
        self._options = ort.SessionOptions()
        self._options.log_severity_level = FATAL_ONLY
        self._options.add_session_config_entry(PACK_IN_PARALLEL, "1")
        self._options.intra_op_num_threads = options.threads or usable_threads()
        if bundle.manifest.kernels is not None:
            register_kernels(self._options, bundle.manifest.kernels)
        self._opened: dict[str, ort.InferenceSession] = {}

    def open(self, graph: Graph) -> ort.InferenceSession:
        """The session of a graph; weights are mapped from their files.

        Raises:
            SessionError: ONNX Runtime cannot load the graph, or takes no such path.
        """
        if graph.path not in self._opened:
            self._opened[graph.path] = self._load(graph)
        return self._opened[graph.path]

    def close(self) -> None:
        """Drops every session."""
        if self._trace is not None:
            for session in self._opened.values():
                session.end_profiling()
        self._opened.clear()

    def _load(self, graph: Graph) -> ort.InferenceSession:
        file = self._bundle.file(graph.path)
        if not _is_text(file):
            raise SessionError(
                f"ONNX Runtime opens no file of {self._bundle.path}",
                got="a path that is not UTF-8",
                next_step="rename it",
            )
        if self._trace is not None:
            self._options.enable_profiling = True
            self._options.profile_file_prefix = str(self._trace / file.stem)
        # Without a fallback: it would print to stdout that it falls back to the provider that has
        # just failed.
        with named_failures(graph, "load"):
            return ort.InferenceSession(
                file, self._options, providers=["CPUExecutionProvider"], enable_fallback=0
            )


def _is_text(path: Path) -> bool:
    """Whether a path has none of the bytes that Python keeps as lone surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
