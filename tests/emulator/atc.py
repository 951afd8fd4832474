"""An `atc` for machines without CANN: a program with the command line and the manners of ATC.

install_atc() makes the executable; main() is what it runs. Settings lie in atc.json beside the
executable; ATC_EMULATOR_<SETTING> in the environment wins over them.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from tests.emulator.atc_errors import FAILED_LINE, AtcError, inner_error
from tests.emulator.atc_options import UnknownFlagError, check_environment, parse_options
from tests.paths import ROOT

__all__ = ["Settings", "install_atc", "main"]

FAILED: Final = 255  # ge, api/atc/main_impl.cc: main returns -1
_LOGGED: Final = ("TE_PARALLEL_COMPILER", "MAX_COMPILE_CORE_NUMBER", "MULTI_THREAD_COMPILE")

_LAUNCHER: Final = """#!{python}
import sys
from pathlib import Path

sys.path.insert(0, {tree!r})
from tests.emulator.atc import main

sys.exit(main(sys.argv[1:], Path(__file__).with_name("atc.json")))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this installation of CANN behaves.

    fail_with: an error code, "oom" (killed by signal 9) or "silent" (rc 0, no file); it concerns
    only models whose output path contains fail_model.
    layout_per_graph: weights of a MatMul with more than one row are stored transposed.
    host_in_name: the OM embeds host code and is called X_<os>_<cpu>.om.
    """

    cann_version: str = "8.5.0"
    layout_per_graph: bool = False
    fail_with: str = ""
    fail_model: str = ""
    ops_packages: tuple[str, ...] = ("310p", "910b")
    host_in_name: bool = False
    workspace_bytes: int = 4 * 2**20


def install_atc(directory: Path, **settings: Any) -> Path:
    """Writes the executable `atc` and its settings into a directory, and gives its path."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "atc"
    program.write_text(_LAUNCHER.format(python=sys.executable, tree=str(ROOT)))
    program.chmod(0o755)
    directory.joinpath("atc.json").write_text(json.dumps(asdict(Settings(**settings))))
    return program


def main(arguments: Sequence[str], settings_file: Path) -> int:
    """Runs ATC; what it prints and gives back is that of ge, api/atc/main_impl.cc."""
    print("ATC start working now, please wait for a moment.", flush=True)
    _log(arguments, os.environ)
    try:
        settings = _settings(settings_file, os.environ)
        options = parse_options(arguments)
        check_environment(os.environ)
        if options.get("mode", "0") == "1":
            _convert_to_json(options)
        else:
            _compile(options, settings)
    except UnknownFlagError as error:
        print(error)
        print(FAILED_LINE)
        print("E19999: Internal Error!\n        An unknown error occurred. Please check the log.\n")
        return FAILED
    except AtcError as error:
        print(f"\n{FAILED_LINE}\n{error.block()}")
        return FAILED
    print("\nATC run success, welcome to the next use.\n")
    return 0


def _settings(file: Path, environment: Mapping[str, str]) -> Settings:
    settings = Settings(**json.loads(file.read_text()))
    for field in fields(Settings):
        text = environment.get(f"ATC_EMULATOR_{field.name.upper()}")
        if text is not None:
            plain = isinstance(getattr(settings, field.name), str)
            given: dict[str, Any] = {field.name: text if plain else json.loads(text)}
            settings = replace(settings, **given)
    return settings


def _log(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    if "ATC_EMULATOR_LOG" in environment:
        kept = {k: v for k, v in environment.items() if k in _LOGGED or k.startswith("ASCEND_")}
        with open(environment["ATC_EMULATOR_LOG"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"argv": list(arguments), "env": kept}) + "\n")


def _compile(options: Mapping[str, str], settings: Settings) -> None:
    soc = options["soc_version"]
    series = next((s for s in ("310P", "310B", "910B") if soc.startswith("Ascend" + s)), "")
    if series.lower() not in settings.ops_packages:
        # Certain for CANN 8.5: the compile fails. Which text it prints is a guess.
        raise inner_error(f"No op kernel of {soc} is found: is its ops package installed?")
    if settings.fail_with and settings.fail_model in options["output"]:
        _fail(settings.fail_with)
        return
    # Imported here: onnx takes a while.
    if options["framework"] == "1":
        from tests.emulator.ge.compile import compile_air

        compile_air(options, settings)
    else:
        from tests.emulator.atc_compile import compile_model

        compile_model(options, settings)


def _fail(how: str) -> None:
    if how == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    if how != "silent":
        raise AtcError(how, "asked for by the test.", title="Inner_Error")


def _convert_to_json(options: Mapping[str, str]) -> None:
    from tests.emulator.om_json import om_as_json

    om = Path(options["om"])
    if not om.is_file():
        raise AtcError("E10001", f"Value {om} for parameter --om is invalid. Reason: no such file")
    Path(options["json"]).write_text(json.dumps(om_as_json(om), indent=2))
