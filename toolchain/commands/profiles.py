"""toolchain profiles."""

__all__ = ["command"]


def command() -> None:
    """List the profiles that ship with the toolchain."""
    from profiles import load_profile, profile_names
    from toolchain.console import print_table

    rows = []
    for name in profile_names():
        profile = load_profile(name)
        graphs = " ".join(spec.name for spec in profile.graphs)
        context = str(max(spec.cache_len for spec in profile.graphs))
        rows.append((name, profile.target, profile.weights, context, graphs, profile.description))
    print_table("profiles", ("name", "target", "weights", "context", "graphs", "for"), rows)
