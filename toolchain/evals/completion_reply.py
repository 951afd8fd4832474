"""What /v1/completions answers, in the words of OpenAI, vLLM and llama.cpp."""

import json
from collections.abc import Mapping
from typing import Any

from runtime.errors import EvalError
from toolchain.remote.failure import of_error_event, remote_error
from toolchain.remote.server import Server

__all__ = ["TEXT_INSTEAD", "read_first", "read_likeliest", "read_text"]

TEXT_INSTEAD = "choose --style sdk, which reads text"
WRONG = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError)


def read_text(server: Server, event: str) -> str:
    """The text of an event of a stream.

    Raises:
        RemoteError: the event says what went wrong.
        EvalError: it is no event of a completion.
    """
    try:
        document = json.loads(event)
        if "error" in document:
            raise remote_error(server.root, of_error_event(document))
        return "".join(str(choice["text"]) for choice in document["choices"])
    except WRONG as error:
        raise _no_completion(server, event) from error


def read_first(server: Server, reply: Mapping[str, Any]) -> tuple[str, float]:
    """Text and log-probability of the first token.

    Raises:
        EvalError: the reply has none.
    """
    logprobs = _logprobs(server, reply)
    try:
        if "tokens" in logprobs:
            return str(logprobs["tokens"][0]), float(logprobs["token_logprobs"][0])
        first = logprobs["content"][0]
        return str(first["token"]), float(first["logprob"])
    except WRONG as error:
        raise _no_completion(server, json.dumps(reply)) from error


def read_likeliest(server: Server, reply: Mapping[str, Any]) -> dict[str | int, float]:
    """Log-probabilities in the place of the first token: by id where ids are told, else by text.

    Raises:
        EvalError: the reply has none.
    """
    logprobs = _logprobs(server, reply)
    try:
        if "tokens" in logprobs:
            top = logprobs["top_logprobs"][0]
            return {str(text): float(logprob) for text, logprob in top.items()}
        entries = logprobs["content"][0]["top_logprobs"]
        return {int(entry["id"]): float(entry["logprob"]) for entry in entries if "id" in entry}
    except WRONG as error:
        raise _no_completion(server, json.dumps(reply)) from error


def _logprobs(server: Server, reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenAI's older form has `tokens`; llama.cpp answers in that of chats, with `content`."""
    try:
        logprobs = reply["choices"][0]["logprobs"]
    except WRONG as error:
        raise _no_completion(server, json.dumps(reply)) from error
    if not isinstance(logprobs, dict) or not (logprobs.get("tokens") or logprobs.get("content")):
        raise EvalError(f"{server.root} gives no log-probabilities", next_step=TEXT_INSTEAD)
    return logprobs


def _no_completion(server: Server, got: str) -> EvalError:
    return EvalError(
        f"{server.root} does not answer as OpenAI's API does", got=got[:200], next_step=TEXT_INSTEAD
    )
