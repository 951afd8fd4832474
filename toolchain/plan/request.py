"""What is to be planned, and the parts of the device's memory that it takes."""

from dataclasses import dataclass, replace

from export.config import check_context
from profiles import Profile
from runtime.bundle.manifest import ModelConfig
from toolchain.choices import Choices
from toolchain.costs.quantity import Quantity
from toolchain.errors import TargetError
from toolchain.targets import TARGETS, Target, find_target

__all__ = ["PlanRequest", "device_parts", "make_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is to be planned.

    share_weights: False plans one copy of the weights for every graph.
    """

    config: ModelConfig
    profile: Profile
    share_weights: bool

    @property
    def target(self) -> Target:
        """The profile's target."""
        return TARGETS[self.profile.target]


def make_request(
    config: ModelConfig, profile: Profile, choices: Choices, share_weights: bool
) -> PlanRequest:
    """A request that the target can do.

    Raises:
        ConfigError: the profile caches more positions than the model has.
        TargetError: no such target, or something that it lacks or cannot do.
    """
    profile = choices.apply(profile)
    target = find_target(profile)
    profile = target.settle(profile)
    if target.footprint.needs_chip != (profile.chip is not None):
        raise TargetError(
            f"profile {profile.name}: chip",
            got="none" if profile.chip is None else profile.chip.soc_name,
            allowed="facts of the chip" if target.footprint.needs_chip else "none for this target",
        )
    check_context(config, profile)
    target.check(config, profile.graphs)
    if target.footprint.sharing == "always" and not share_weights:
        raise TargetError(
            f"target {profile.target} always shares the weights between graphs",
            next_step="leave --no-share-weights out",
        )
    return PlanRequest(config=config, profile=profile, share_weights=share_weights)


def device_parts(request: PlanRequest) -> list[Quantity]:
    """Every part of the device's memory."""
    footprint = request.target.footprint
    weights = footprint.weights(request.config, request.profile)
    if not request.share_weights:
        graphs = len(request.profile.graphs) + len(request.profile.short_graphs)
        weights = replace(
            weights,
            value=graphs * weights.value,
            formula=f"{graphs} graphs x ({weights.formula})",
        )
    return [weights, *footprint.state(request.config, request.profile)]
