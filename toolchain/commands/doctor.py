"""toolchain doctor."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.options import AsJson, JsonFile, ProfileOption

if TYPE_CHECKING:
    from profiles import Profile
    from toolchain.doctor import Item, System

__all__ = ["command", "report"]

COLUMNS = ("item", "for", "found", "needed", "verdict")
VERDICTS = {"warning": "ok, but", "optional": "not needed here"}
PURPOSES = {"both": "both", "compile": "compiling", "run": "running", "torch": "torch target"}


def command(
    profile: ProfileOption = "cpu",
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Check this host for what a profile needs, and say how to get the rest; exit 1 if any."""
    from profiles import load_profile
    from toolchain.doctor import System

    report(System.here(), load_profile(profile), as_json, output)


def report(
    system: "System", profile: "Profile", as_json: bool = False, output: Path | None = None
) -> None:
    """Prints the diagnosis of a host, or gives it as a document.

    Raises:
        UserError: something that the profile needs is not there.
    """
    from runtime.documents import document, give_document
    from runtime.errors import UserError
    from toolchain.console import print_table
    from toolchain.doctor import diagnose, is_lacking

    items = diagnose(system, profile)
    if as_json or output is not None:
        found = {"profile": profile.name, "items": [asdict(item) for item in items]}
        give_document(document("doctor", found), output)
    else:
        print_table(f"{profile.name}: {profile.description}", COLUMNS, list(map(_row, items)))
        ours = [item for item in items if item.purpose != "torch"]
        _print_remedies("how to get it, in this order", ours)
        others = [item for item in items if item.purpose == "torch"]
        _print_remedies("what a torch target would need", others)
    lacking = [item.purpose for item in items if is_lacking(item)]
    if lacking:
        counts = [
            f"{sum(each in ('both', purpose) for each in lacking)} for {PURPOSES[purpose]}"
            for purpose in ("compile", "run")
        ]
        raise UserError(
            f"profile {profile.name} lacks {len(lacking)} of {len(items)} items",
            next_step=", ".join(counts),
        )


def _row(item: "Item") -> tuple[str, ...]:
    verdict = VERDICTS.get(item.verdict, item.verdict)
    return item.name, PURPOSES[item.purpose], item.found, item.needed, verdict


def _print_remedies(title: str, items: "list[Item]") -> None:
    """One line each, outside of any table: commands are copied from here."""
    from runtime.console import show

    open_items = [item for item in items if item.remedy]
    if not open_items:
        return
    width = max(len(item.name) for item in open_items)
    show(title)
    for item in open_items:
        for i, line in enumerate(item.remedy.splitlines()):
            show(f" {'' if i else item.name:{width}}  {line}")
    show("")
