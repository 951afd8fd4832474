"""toolchain profiles."""

from toolchain.options import AsJson, JsonFile

__all__ = ["command"]

COLUMNS = ("name", "target", "weights", "context", "graphs", "for")


def command(as_json: AsJson = False, output: JsonFile = None) -> None:
    """List the profiles that ship with the toolchain."""
    from profiles import load_profile, profile_names
    from runtime.documents import document, give_document
    from toolchain.console import print_table

    profiles = [load_profile(name) for name in profile_names()]
    if as_json or output is not None:
        entries = [profile.model_dump(mode="json") for profile in profiles]
        give_document(document("profiles", {"profiles": entries}), output)
        return
    rows = [
        (
            profile.name,
            profile.target,
            profile.weights,
            str(profile.cache_len),
            " ".join(spec.name for spec in profile.graphs),
            profile.description,
        )
        for profile in profiles
    ]
    print_table("profiles", COLUMNS, rows)
