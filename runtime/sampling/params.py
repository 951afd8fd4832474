"""How to sample one sequence: the settings, their defaults and their ranges."""

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from runtime.errors import ParameterError
from runtime.record import Record
from runtime.sampling.constraint import ConstraintSpec

__all__ = ["BOUNDS", "SamplingParams", "check_vocab"]

BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "maximum": "<="}  # words of JSON schema


class SamplingParams(Record):
    """How to sample one sequence; a value out of its range raises ParameterError.

    Names are vLLM's, ranges OpenAI's or else vLLM's. Ours are the ends of repetition_penalty
    (nearer to 0 it overflows) and the upper end of temperature.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    temperature: float = Field(default=0.0, ge=0, le=100)  # 0: greedy
    top_k: int = Field(default=0, ge=0)  # 0: off
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=10)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)  # None: new each time
    max_tokens: int | None = Field(default=None, ge=1)  # None: until the context is full
    max_length: int | None = Field(default=None, ge=1)  # prompt and answer; max_tokens goes first
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=20)  # number of top alternatives to report
    constraint: ConstraintSpec | None = None  # what the answer is bound to

    @property
    def has_penalties(self) -> bool:
        """Whether the ids seen so far change the next choice."""
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1, 0, 0)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_politely(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            path = list(map(str, first["loc"]))
            param = path[0] if path else None
            fields = cls.model_json_schema()["properties"]
            schema = fields.get(param)
            raise ParameterError(
                f"{'.'.join(path)}: {first['msg']}",
                got=repr(first["input"]),
                allowed=_describe(schema) if schema else ", ".join(fields),
                next_step="change it or leave it out",
                code="unknown_parameter" if first["type"] == "extra_forbidden" else None,
                param=param,
            ) from error


def _describe(schema: dict[str, Any]) -> str:
    """A JSON schema in words, such as: number >= 0 and <= 100."""
    schema = schema.get("anyOf", [schema])[0]  # the other alternative is null
    if "$ref" in schema:
        return f"a {schema['$ref'].rpartition('/')[2]}"
    inner = schema.get("items") or schema.get("additionalProperties")
    if inner:
        return f"{schema['type']} of {_describe(inner)}"
    bounds = [f"{sign} {schema[word]}" for word, sign in BOUNDS.items() if word in schema]
    return f"{schema['type']} {' and '.join(bounds)}"


def check_vocab(params: SamplingParams, vocab_size: int) -> None:
    """Refuses ids that the model does not have.

    Raises:
        ParameterError: an id of logit_bias or stop_token_ids is not in [0, vocab_size).
    """
    for name, ids in ("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids):
        for token_id in ids:
            if not 0 <= token_id < vocab_size:
                raise ParameterError(
                    f"{name} names a token that the model does not have",
                    got=token_id,
                    allowed=f"ids from 0 to {vocab_size - 1}",
                    next_step="use the ids of this model's tokenizer",
                    param=name,
                )
