"""One TOML per deployment: chip facts with their sources, and choices. No measured results."""

from profiles.profile import (
    Chip,
    ChipFact,
    HostCPU,
    Kernels,
    KVCache,
    Limits,
    Precision,
    Profile,
    ProfileError,
    exported_profile,
    load_profile,
    profile_names,
)

__all__ = [
    "Chip",
    "ChipFact",
    "HostCPU",
    "KVCache",
    "Kernels",
    "Limits",
    "Precision",
    "Profile",
    "ProfileError",
    "exported_profile",
    "load_profile",
    "profile_names",
]
