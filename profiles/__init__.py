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
    Via,
    exported_profile,
    load_profile,
    profile_names,
)
from profiles.recipe import BITS, Fineness, LayerKind, layer_kind

__all__ = [
    "BITS",
    "Chip",
    "ChipFact",
    "Fineness",
    "HostCPU",
    "KVCache",
    "Kernels",
    "LayerKind",
    "Limits",
    "Precision",
    "Profile",
    "ProfileError",
    "Via",
    "exported_profile",
    "layer_kind",
    "load_profile",
    "profile_names",
]
