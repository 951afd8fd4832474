"""The results of peers.py as Markdown."""

from collections.abc import Iterator
from statistics import median

from peer_results import CASES, CONTEXTS, PROMPTS, Results, decode, prefill

__all__ = ["markdown"]

RIVALS = {
    "ours-int4": ("llama.cpp-q4_0", "openvino-int4", "genai-int4"),
    "ours-int4-kv8": ("llama.cpp-q4_0", "openvino-int4", "genai-int4"),
    "ours-int8": ("llama.cpp-q8_0",),
}


def markdown(results: Results) -> Iterator[str]:
    """Every line."""
    yield from _machine(results)
    for title, lines in (
        ("Prefill, tokens/s", _prefill(results)),
        ("Decode, ms per token, tokens/s and share of the read bandwidth", _decode(results)),
        ("Times as fast as the peer", _ratios(results)),
        ("Loading and memory", _memory(results)),
    ):
        yield from ("", f"**{title}**", "")
        yield from lines


def _machine(results: Results) -> Iterator[str]:
    rates = sorted(rate / 1e9 for rates in results.bandwidths.values() for rate in rates)
    yield (
        f"{results.cpu} ({', '.join(results.features)}), {results.cores} cores, "
        f"{results.memory_bytes / 1e9:.0f} GB, kernels of ours {results.kernels}, "
        f"{results.date}; {results.layers} layers, {results.rounds} rounds; memory is read at "
        f"{median(rates):.1f} GB/s ({rates[0]:.1f} to {rates[-1]:.1f})"
    )
    yield ""
    yield from _header(
        *("engine", "version", "settings", "read per token MB", "cache kB/position"), num_texts=3
    )
    for name, engine in results.engines.items():
        weights, cache = engine.weight_bytes / 1e6, engine.cache_bytes / 1e3
        yield _row(name, engine.version, engine.settings, f"{weights:.0f}", f"{cache:.0f}")


def _prefill(results: Results) -> Iterator[str]:
    yield from _header("engine", *PROMPTS)
    for name, engine in results.engines.items():
        rates = (1000 * length / engine.ms(prefill(length)) for length in PROMPTS)
        yield _row(name, *(f"{rate:.1f}" for rate in rates))


def _decode(results: Results) -> Iterator[str]:
    yield from _header("engine", *(f"after {context}" for context in CONTEXTS))
    for name, engine in results.engines.items():
        cells = []
        for context in CONTEXTS:
            ms, share = engine.ms(decode(context)), results.read_share(engine, context)
            cells.append(f"{ms:.2f} ms, {1000 / ms:.1f}/s, {share:.0%}")
        yield _row(name, *cells)


def _ratios(results: Results) -> Iterator[str]:
    yield from _header("", *map(_short, CASES))
    for name, rivals in RIVALS.items():
        for rival in rivals:
            if {name, rival} <= results.engines.keys():
                ours, theirs = results.engines[name], results.engines[rival]
                ratios = (ours.ratio(theirs, case) for case in CASES)
                yield _row(f"{name} / {rival}", *(f"{ratio:.2f}" for ratio in ratios))


def _memory(results: Results) -> Iterator[str]:
    kinds = ("peak", "rss", "pss", "anonymous")
    yield from _header("engine", "load s", "first prompt s", *(f"{kind} MB" for kind in kinds))
    for name, engine in results.engines.items():
        memory = (f"{engine.memory_mb[kind]:.0f}" for kind in kinds)
        yield _row(name, f"{engine.load_s:.2f}", f"{engine.first_ms / 1000:.2f}", *memory)


def _short(case: str) -> str:
    """The case without the number of its steps."""
    return " ".join(case.split()[:2])


def _header(*cells: object, num_texts: int = 1) -> tuple[str, str]:
    """Names of columns: texts are aligned left, and after them numbers right."""
    marks = ["---"] * num_texts + ["--:"] * (len(cells) - num_texts)
    return _row(*cells), f"|{'|'.join(marks)}|"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
