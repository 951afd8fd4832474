"""Options of the commands that sample, made once for all of them.

Every field of SamplingParams is an option or stands in NOT_OPTIONS with the reason; a test holds
that. They are not read from SamplingParams itself, since --help must not wait for pydantic.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer

__all__ = [
    "NOT_OPTIONS",
    "SAMPLING_OPTIONS",
    "AsJson",
    "BundlePath",
    "Choices",
    "DeviceIndex",
    "Devices",
    "JsonFile",
    "JsonSchemaFile",
    "LarkFile",
    "RayAddress",
    "Regex",
    "Settings",
    "Stop",
    "System",
    "Threads",
    "TokenBias",
    "check_place",
    "device_numbers",
    "read_bias",
    "with_sampling_options",
]

BundlePath = Annotated[Path, typer.Argument(metavar="COMPILED", help="Directory of the bundle.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="Threads that compute. Default: cores that this process may use and pay for.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JsonFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the JSON document to this file.")
]
DeviceIndex = Annotated[int, typer.Option("--device", min=0, help="Which device of the box.")]
Devices = Annotated[
    str,
    typer.Option(
        "--device", metavar="N[,N]...", help="Which device of the box, or several: 0,1,2,3."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="HOST:PORT",
        help="On every device of this Ray cluster; auto: that of this machine.",
    ),
]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")]
System = Annotated[str | None, typer.Option(help="System prompt; empty for none.")]

BOUND = "What the answer must be (one of these)"
JsonSchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--json-schema",
        metavar="FILE",
        help="JSON that fulfils the schema in this file.",
        rich_help_panel=BOUND,
    ),
]
Regex = Annotated[
    str | None,
    typer.Option(help="A text that this expression matches to both ends.", rich_help_panel=BOUND),
]
Choices = Annotated[
    list[str] | None,
    typer.Option("--choice", help="One of these texts; repeatable.", rich_help_panel=BOUND),
]
LarkFile = Annotated[
    Path | None,
    typer.Option(
        "--lark", metavar="FILE", help="A text of the grammar in this file.", rich_help_panel=BOUND
    ),
]

# The sampling options that were given, under the names of SamplingParams' fields.
Settings: TypeAlias = Mapping[str, Any]


class TokenBias(NamedTuple):
    """A token and what is added to its logit."""

    token_id: int
    bias: float


def read_bias(text: str) -> TokenBias:
    """A bias as it is written: ID=VALUE.

    Raises:
        ValueError: it is written otherwise.
    """
    token_id, _, bias = text.partition("=")
    return TokenBias(int(token_id), float(bias))


def device_numbers(text: str) -> tuple[int, ...]:
    """The devices of a command line.

    Raises:
        BadParameter: they are not written as in 0,1.
    """
    from runtime.sessions import read_devices

    try:
        return read_devices(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--device'") from None


def check_place(ray: str | None, devices: tuple[int, ...]) -> None:
    """Refuses devices of this box beside those of a cluster.

    Raises:
        ParameterError: see above.
    """
    from runtime.errors import ParameterError

    if ray is not None and devices != (0,):
        raise ParameterError(
            "--device names devices of this box, and --ray takes all of a cluster",
            next_step="leave one of them out",
            param="device",
        )


def _bias_option(text: str) -> TokenBias:
    try:
        return read_bias(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is not a token id, = and a number.", param_hint="'--logit-bias'"
        ) from None


@dataclass(frozen=True, slots=True)
class SamplingOption:
    """How a field of SamplingParams is given on a command line.

    type: of one value as Typer reads it, or a list of a type for an option that is repeatable.
    names: where they are not the field's alone.
    collect: makes the field of the list.
    """

    type: Any
    help: str
    names: tuple[str, ...] = ()
    metavar: str | None = None
    parser: Callable[[str], object] | None = None
    collect: Callable[[Any], object] | None = None


SAMPLING_OPTIONS = {
    "max_tokens": SamplingOption(
        int, "Stop after this many tokens, 1 or more.", names=("--max-tokens", "-n")
    ),
    "temperature": SamplingOption(
        float, "0 to 100; 0 takes the likeliest token.", names=("--temperature", "--temp")
    ),
    "top_k": SamplingOption(int, "Keep the k likeliest tokens; 0 keeps all."),
    "top_p": SamplingOption(
        float, "Keep the likeliest tokens up to this mass; above 0, at most 1."
    ),
    "min_p": SamplingOption(float, "Keep tokens this close to the likeliest, 0 (all) to 1."),
    "repetition_penalty": SamplingOption(float, "Above 1: repeat less; 0.01 to 10."),
    "presence_penalty": SamplingOption(float, "Penalty once a token was generated, -2 to 2."),
    "frequency_penalty": SamplingOption(float, "Penalty per time it was generated, -2 to 2."),
    "logit_bias": SamplingOption(
        list[TokenBias],
        "Add -100 to 100 to the logit of a token; repeatable.",
        metavar="ID=VALUE",
        parser=_bias_option,
        collect=dict,
    ),
    "seed": SamplingOption(int, "The same seed, of 64 bits, gives the same answer."),
    "stop_token_ids": SamplingOption(
        list[int],
        "Stop at this token too; repeatable.",
        names=("--stop-token-id",),
        metavar="ID",
        collect=tuple,
    ),
    "ignore_eos": SamplingOption(bool, "Do not stop at any token."),
}
NOT_OPTIONS = {
    "constraint": "options of generate alone: --json-schema, --regex, --choice and --lark",
    "logprobs": "an option of generate alone: only its --json can show them",
    "max_length": "a default of generation_config.json; --max-tokens says the same of the answer",
}


def with_sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """Puts the sampling options in the place of a command's parameter `settings`.

    The command gets those that were given.
    """

    @wraps(command)
    def gather(**arguments: Any) -> None:
        settings = {}
        for field, option in SAMPLING_OPTIONS.items():
            value = arguments.pop(field)
            if value is not None:
                settings[field] = option.collect(value) if option.collect else value
        command(settings=settings, **arguments)

    gather.__signature__ = Signature(list(_parameters(command)))  # type: ignore[attr-defined]
    return gather


def _parameters(command: Callable[..., None]) -> Iterator[Parameter]:
    """What Typer reads; it gives every one by its name."""
    for parameter in signature(command).parameters.values():
        if parameter.name == "settings":
            yield from map(_parameter, SAMPLING_OPTIONS, SAMPLING_OPTIONS.values())
        else:
            yield parameter.replace(kind=Parameter.KEYWORD_ONLY)


def _parameter(field: str, option: SamplingOption) -> Parameter:
    shown = typer.Option(
        None,
        *(option.names or (f"--{field.replace('_', '-')}",)),
        help=option.help,
        metavar=option.metavar,
        parser=option.parser,
        rich_help_panel="Sampling (default: the model's own)",
    )
    return Parameter(field, Parameter.KEYWORD_ONLY, default=shown, annotation=option.type | None)
