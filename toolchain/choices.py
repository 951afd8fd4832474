"""What is chosen over a profile for one bundle or one plan."""

from dataclasses import dataclass
from typing import TypeVar

from profiles import Profile, load_profile, profile_names
from runtime.bundle.manifest import ModelConfig
from toolchain.errors import TargetError
from toolchain.targets import Target, find_target, target_named

__all__ = ["AS_PROFILED", "Choices", "check_profile"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Overrides of a profile; None keeps the profile's value.

    target: cpu or a chip.
    weights: precision of the linear layers.
    calibrate: texts that the weights are rounded with: builtin, or a file.
    kv_cache: precision of the KV cache.
    kernels: what multiplies on a CPU.
    via: through what a chip's graphs are compiled.
    host_cpu: CPU of the box.
    group_size: inputs that share a scale in levels that the checkpoint has; int4 keeps them.
    without: passes to disable, to locate a fault; no part of a profile.
    """

    target: str | None = None
    weights: str | None = None
    calibrate: str | None = None
    kv_cache: str | None = None
    kernels: str | None = None
    via: str | None = None
    host_cpu: str | None = None
    group_size: int | None = None
    without: tuple[str, ...] = ()

    def apply(self, profile: Profile) -> Profile:
        """The profile with what is chosen.

        Another target brings its own chip, and its defaults where it does not take what the
        profile says.

        Raises:
            TargetError: no such target, or texts for weights that are quantised already.
        """
        if self.target is not None and self.target != profile.target:
            profile = _moved(profile, self.target, target_named(self.target))
        names = ("weights", "calibrate", "kv_cache", "kernels", "via", "host_cpu")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return self._grouped(profile.model_copy(update=given))

    def _grouped(self, profile: Profile) -> Profile:
        """With the groups of the checkpoint's own levels, where int4 keeps them."""
        if self.group_size is None or profile.weights != "int4":
            return profile
        if profile.calibrate is not None:
            raise TargetError(
                "the weights of this checkpoint are quantised already; int4 keeps their levels",
                got=f"--calibrate {profile.calibrate}",
                next_step="leave --calibrate out, or export the checkpoint before quantisation",
            )
        return profile.model_copy(update={"block_size": self.group_size})


AS_PROFILED = Choices()  # nothing is overridden


def check_profile(config: ModelConfig, profile: Profile) -> None:
    """Refuses what compile would refuse of a profile, before the work of export.

    Raises:
        TargetError: no such target or pass, or a choice or a model that it cannot take.
    """
    from toolchain.targets.pass_list import choose_passes  # needs the packages of compile

    target = find_target(profile)
    target.check(config, profile.graphs)
    choose_passes(target.passes.load(), profile, without=())


def _moved(profile: Profile, name: str, target: Target) -> Profile:
    """The profile for another target; passes and chip are the target's own."""
    return profile.model_copy(
        update={
            "target": name,
            "weights": _taken(profile.weights, target.weights),
            "block_size": _taken(profile.block_size, target.block_sizes),
            "calibrate": profile.calibrate if target.calibrates else None,
            "kv_cache": _taken(profile.kv_cache, target.kv_caches),
            "kernels": "auto",
            "via": "auto",
            "host_cpu": profile.host_cpu if profile.host_cpu in target.host_cpus else None,
            "chip": load_profile(name).chip if name in profile_names() else None,
            "passes": (),
        }
    )


def _taken(value: T, allowed: tuple[T, ...]) -> T:
    """The value where the target takes it, else the target's default."""
    return value if value in allowed else allowed[0]
