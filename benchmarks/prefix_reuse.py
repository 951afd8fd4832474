"""What keeping the rows of a subject's examples saves in a few-shot evaluation.

Evaluates the same questions twice in one process, with and without reuse, alternating by rounds,
each time from an empty log, and says whether every choice and every logit had the same bits.

Usage: prefix_reuse.py COMPILED --data DIR [--benchmark ceval] [--style alpaca2] [--limit 2]
       [--subjects a,b] [--shots 5] [--rounds 3]
"""

import argparse
import os
import platform
import statistics
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.sessions import Session, open_session
from runtime.text.from_bundle import open_tokenizer
from toolchain.evals.evaluation import BENCHMARKS, Evaluation
from toolchain.evals.examine import Effort, examine
from toolchain.evals.examinee import OnBundle, describe_bundle


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--benchmark", choices=tuple(BENCHMARKS), default="ceval")
    parser.add_argument("--style", default="alpaca2")
    parser.add_argument("--subjects", default="")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def run(
    arguments: argparse.Namespace, bundle: Bundle, session: Session, reuse: bool
) -> tuple[list[str], Effort]:
    """One evaluation: the lines of its log without the first, and what it took."""
    evaluation = Evaluation(
        benchmark=BENCHMARKS[arguments.benchmark],
        data=arguments.data,
        style=arguments.style,
        shots=arguments.shots,
        subjects=tuple(filter(None, arguments.subjects.split(","))),
        limit=arguments.limit,
        prefix_reuse=reuse,
    )
    tokenizer = open_tokenizer(bundle)
    scheduler = Scheduler(Engine(session, reuse_prefix=reuse))
    examinee = OnBundle(scheduler=scheduler, tokenizer=tokenizer, described=describe_bundle(bundle))
    with TemporaryDirectory() as name:
        output = Path(name)
        result, effort = examine(evaluation, examinee, output, None)
        log = (output / result.log).read_text(encoding="utf-8")
    return log.splitlines()[1:], effort


def main() -> None:
    """Measures and prints a table."""
    arguments = parse()
    bundle = load_bundle(arguments.bundle)
    ratios: list[float] = []
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    print("| | questions | seconds | prompt tokens computed | reused | answers |")
    print("|---|--:|--:|--:|--:|---|")
    with closing(open_session(bundle)) as session:
        for _ in range(arguments.rounds):
            expected, without = run(arguments, bundle, session, reuse=False)
            answers, with_reuse = run(arguments, bundle, session, reuse=True)
            same = "the same bits" if answers == expected else "DIFFERENT"
            for name, effort in ("without", without), ("with", with_reuse):
                print(
                    f"| {name} | {effort.asked} | {effort.seconds:.1f} | {effort.computed_tokens} "
                    f"| {effort.reused_tokens} | {same} |"
                )
            ratios.append(without.seconds / with_reuse.seconds)
    print(f"{statistics.median(ratios):.2f} times as fast, median of {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
