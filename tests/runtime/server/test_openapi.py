"""The description of the API is true: schemathesis asks what it allows and what it forbids.

`EXAMPLES=200 pytest tests/runtime/server/test_openapi.py` asks more than the suite.
"""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response

from tests.serving import Serving, make_service, ready

EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # By default 405 and 413 are none.
            "negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 413]},
            # A refusal of what the description allows must be one of REFUSALS, see below.
            "positive_data_acceptance": {"expected-statuses": [200, 400, 404]},
        }
    }
)
# What no schema says: one field depends on another, or on the model.
REFUSALS = re.compile(
    "max_tokens: Input should be greater than or equal to 1"  # 0 with echo alone
    "|seed: Input should be (greater|less) than"  # the ends have more digits than a float
    "|a prompt or messages, one of them"
    "|a stream of no tokens"
    "|a token id is not in the vocabulary|no such token id"
    "|names a token that the model does not have"
    "|log-probabilities of the prompt do not come in a stream"
    "|longer than the (context|cache)"
    "|more answers than the server has room for"
    "|no such format of answers|the format has no schema"
    "|stream_options without stream"
    "|the messages are not in order|a user message is blank"
    "|the model reads text alone"
    "|the prompt has no tokens|the text is not valid Unicode"
    "|top_logprobs without logprobs"
)
# 7.0 is an integer to JSON Schema, and none to OpenAI's API.
NO_INTEGER = re.compile("Input should be a valid (integer|string)")


@schemathesis.check
def refused_for_a_reason(_: object, response: Response, case: schemathesis.Case[Any]) -> None:
    """What the description allows is refused only for what it cannot say."""
    assert case.meta is not None
    if response.status_code == 400 and case.meta.generation.mode.is_positive:
        message = response.json()["error"]["message"]
        whole = NO_INTEGER.search(message) and re.search(r"\d\.0\b", json.dumps(case.body))
        assert whole or REFUSALS.search(message), message


load_all_checks()


def ask_everything(server: Serving, mode: schemathesis.GenerationMode, **options: Any) -> None:
    """Asks every address, with every check that schemathesis has and ours."""
    url = f"{server.url}/openapi.json"
    schema = schemathesis.openapi.from_url(url, config=CONFIG, **options)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(**options)

        with suppress(Unsatisfiable):  # nothing is forbidden where nothing is asked for
            ask()


MODES = pytest.mark.parametrize(
    "mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value
)


@MODES
def test_every_address_answers_as_it_is_described(
    mode: schemathesis.GenerationMode, talking: Serving
) -> None:
    """Positive: what the description allows. Negative: what it forbids."""
    ask_everything(talking, mode)


@MODES
def test_with_keys_every_address_that_is_described_with_one_asks_for_it(
    mode: schemathesis.GenerationMode, bundles: Path, tmp_path: Path
) -> None:
    key = "Correct-Horse-Battery-Staple"
    (tmp_path / "keys").write_text(key)
    service = make_service(bundles / "talk-int4", api_key_file=tmp_path / "keys")
    with ready(service) as server:
        ask_everything(server, mode, headers={"Authorization": f"Bearer {key}"})


def test_the_page_has_every_address_and_field_and_loads_nothing(talking: Serving) -> None:
    with talking.http() as http:
        described, reply = http.get("/openapi.json").json(), http.get("/docs")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.search(r"<script|src=|href=|url\(|@import", reply.text)
    for path in described["paths"]:
        assert f" {path}</code>" in reply.text
    for field in described["components"]["schemas"]["ChatBody"]["properties"]:
        assert f"<code>{field}</code>" in reply.text


def test_no_answer_of_fastapis_own_is_promised(talking: Serving) -> None:
    with talking.http() as http:
        described = http.get("/openapi.json").json()
    for methods in described["paths"].values():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            assert {"200", "4XX", "5XX"} <= operation["responses"].keys()
    assert "HTTPValidationError" not in described["components"]["schemas"]
