"""What compile through ONNX would check and start, without starting it."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from profiles import Profile
from runtime.bundle.atomic_directory import NEW
from runtime.bundle.reader import Bundle
from runtime.bundle.work_directory import work_path
from runtime.threads import usable_threads
from toolchain.errors import TargetError
from toolchain.host.machine import available_memory
from toolchain.targets.ascend.atc_command import atc_environment, compile_options, print_options
from toolchain.targets.ascend.build import STAGING, join, needs_gears
from toolchain.targets.ascend.cann import find_cann
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.lower import lower
from toolchain.targets.ascend.oms import atc_job
from toolchain.targets.ascend.rules.graph_rules import RULES

__all__ = ["dry_run_from_onnx"]


def dry_run_from_onnx(
    bundle: Bundle, profile: Profile, without: Sequence[str], output: Path
) -> list[str]:
    """Lines: every check, then the environment and the command of every graph.

    Without CANN the commands are those for a CANN that shares weights.

    Raises:
        TargetError: a graph that breaks a rule.
    """
    output, chip = output.resolve(), CHIPS[profile.target]
    lowered = lower(bundle, profile, without, chip)
    lines = [f"{one.name}: {rule.name}: yes" for one in lowered for rule in RULES]
    atc = "atc"
    try:
        cann = find_cann(chip)
    except TargetError as error:
        lines.append(f"CANN: {error}")
    else:
        atc = str(cann.atc)
        lines.append(f"CANN: {cann.version} at {cann.atc}")
        if needs_gears(cann):
            lines.append(f"CANN {cann.version} cannot share weights between OMs: one OM in gears")
            lowered, told = join(bundle, profile, without, chip)
            lines += told
    bounded = atc_environment({}, usable_threads(), available_memory(), lowered[0].weight_bytes)
    environment = {name: os.environ.get(name, value) for name, value in bounded.items()}
    lines += [f"export {name}={value}" for name, value in environment.items()]
    source, target = work_path(output) / STAGING, work_path(output) / NEW
    for one in lowered:
        job = atc_job(one, profile, chip, source, target)
        lines.append(shlex.join([atc, *compile_options(job)]))
        om, printed = Path(f"{job.output}.om"), source / f"{one.name}.json"
        lines.append(shlex.join([atc, *print_options(om, printed)]))
    return lines
