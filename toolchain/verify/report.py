"""What verify found, the verdict on it, and the words for both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Literal

from profiles import Limits
from runtime.documents import document
from toolchain.verify.layers import Parts
from toolchain.verify.parity import Agreement

__all__ = ["LEAST_ROWS", "GraphReport", "StageReport", "Verdict", "report_json"]

Verdict = Literal["pass", "fail", "too few rows"]

# Rows of every graph that a pass rests on. Of 64 rows with int4 weights the perplexity moves by
# 1.6 % with the choice of the rows, of 27 by 2.5 %; 12 prompts of 6 texts are enough.
LEAST_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReport:
    """One graph of one stage.

    parts: None where the graph was not opened up: it is no ONNX graph, or there was no room for a
        copy of its bundle.
    """

    graph: str
    agreement: Agreement
    parts: Parts | None
    limits: Limits

    @property
    def failures(self) -> list[str]:
        """The measures of its logits that are past their limits."""
        return self.agreement.failures(self.limits)

    @property
    def culprits(self) -> list[str]:
        """The layers, and the head, that are past their limit."""
        return [] if self.parts is None else self.parts.culprits(self.limits)

    @property
    def verdict(self) -> Verdict:
        """A fault is one however few rows show it."""
        if self.failures or self.culprits:
            return "fail"
        return "pass" if self.agreement.rows >= LEAST_ROWS else "too few rows"

    @property
    def problem(self) -> str:
        """What is past which limit, and where it starts."""
        where = self._where() if self.parts is not None else []
        return "; ".join([*self.failures, *where])

    def _where(self) -> list[str]:
        if not self.culprits:
            return ["no single layer is past its limit"]
        return [f"past its limit: {', '.join(self.culprits)}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One bundle.

    recipe: how its weights are quantised.
    bits_per_weight: of the linear layers, with all that lies beside their weights.
    greedy_match: mean share of greedy tokens before the first mismatch.
    """

    bundle: str
    target: str
    weights: str
    recipe: str
    bits_per_weight: float
    kv_cache: str
    limits: Limits
    graphs: list[GraphReport]
    greedy_match: float

    @property
    def name(self) -> str:
        """The bundle and its precisions."""
        return f"{self.bundle} ({self.target} {self.recipe}, {self.kv_cache} cache)"

    @property
    def text_verdict(self) -> Verdict:
        """On the greedy text."""
        return "pass" if self.greedy_match >= self.limits.greedy else "fail"

    @property
    def verdict(self) -> Verdict:
        """The worst of all graphs and of the text."""
        verdicts = {self.text_verdict, *(report.verdict for report in self.graphs)}
        return next(found for found in ("fail", "too few rows", "pass") if found in verdicts)

    @property
    def rows(self) -> int:
        """That the verdict rests on: of the graph that has the fewest."""
        return min(report.agreement.rows for report in self.graphs)

    @property
    def summary(self) -> list[str]:
        """The verdict in a line, and a line for each graph that is past a limit."""
        lines = [f"{r.graph}: {r.problem}" for r in self.graphs if r.verdict == "fail"]
        if self.text_verdict == "fail":
            lines.append(f"greedy text: {self.greedy_match:.2f} (limit {self.limits.greedy:g})")
        verdict = f"{self.verdict}, by at least {self.rows} rows of every graph"
        if any(report.parts is None for report in self.graphs):
            verdict += "; its layers were not looked at"
        if self.verdict == "too few rows":
            verdict = (
                f"too few rows to judge: {self.rows} of a graph, a pass takes {LEAST_ROWS}; "
                "give --ids with more or longer sequences"
            )
        return [f"{self.name}: {verdict}", *lines]


def report_json(stages: Sequence[StageReport]) -> str:
    """One document of all stages."""
    documents = [
        {
            "bundle": stage.bundle,
            "target": stage.target,
            "weights": stage.weights,
            "recipe": stage.recipe,
            "bits_per_weight": stage.bits_per_weight,
            "kv_cache": stage.kv_cache,
            "verdict": stage.verdict,
            "rows": stage.rows,
            "limits": stage.limits.model_dump(),
            "greedy_match": stage.greedy_match,
            "graphs": [_graph(report) for report in stage.graphs],
        }
        for stage in stages
    ]
    passed = all(stage.verdict == "pass" for stage in stages)
    return document("verify", {"passed": passed, "stages": _finite(documents)})


def _finite(value: object) -> object:
    """The same with null for what is not a number: JSON has none."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _graph(report: GraphReport) -> dict[str, object]:
    return {
        "graph": report.graph,
        "verdict": report.verdict,
        "agreement": asdict(report.agreement),
        "parts": None if report.parts is None else asdict(report.parts),
        "failures": report.failures,
        "culprits": report.culprits,
    }
