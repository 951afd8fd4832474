"""What compile through torchair would check and start, without starting it."""

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
from toolchain.targets.ascend.air_process import require_torchair
from toolchain.targets.ascend.atc_command import atc_environment, compile_options, print_options
from toolchain.targets.ascend.cann import find_cann
from toolchain.targets.ascend.chips import CHIPS
from toolchain.targets.ascend.from_air import STAGING, air_sources, check_cann
from toolchain.targets.ascend.oms import atc_job

__all__ = ["dry_run_from_air"]


def dry_run_from_air(
    bundle: Bundle, profile: Profile, without: Sequence[str], output: Path
) -> list[str]:
    """Lines: what is missing, then the environment and the command of every graph.

    Raises:
        TargetError: a pass that is asked for or left out.
    """
    output, chip = output.resolve(), CHIPS[profile.target]
    sources, lines, atc = air_sources(bundle, profile, without), [], "atc"
    try:
        lines.append(f"torchair: {require_torchair()}")
    except TargetError as error:
        lines.append(f"torchair: {error}")
    try:
        cann = find_cann(chip)
        check_cann(cann)
        lines.append(f"CANN: {cann.version} at {cann.atc}")
        atc = str(cann.atc)
    except TargetError as error:
        lines.append(f"CANN: {error}")
    bounded = atc_environment({}, usable_threads(), available_memory(), sources[0].weight_bytes)
    lines += [f"export {name}={os.environ.get(name, value)}" for name, value in bounded.items()]
    source, target = work_path(output) / STAGING, work_path(output) / NEW
    lines.append(shlex.join(["cd", str(source)]))  # what the paths of weights are relative to
    for one in sources:
        job = atc_job(one, profile, chip, source, target)
        lines.append(shlex.join([atc, *compile_options(job)]))
        om, printed = Path(f"{job.output}.om"), source / f"{one.name}.json"
        lines.append(shlex.join([atc, *print_options(om, printed)]))
    return lines
