"""The description of the API is true: schemathesis asks what it allows and what it forbids.

`EXAMPLES=200 pytest tests/runtime/server/test_openapi.py` asks more than the suite.
"""

import os
import re
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serving import Serving

EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
REFUSALS = {"expected-statuses": [400, 404, 405, 413]}  # by default 413 is none
CONFIG = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": REFUSALS}})
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_address_answers_as_it_is_described(
    mode: schemathesis.GenerationMode, talking: Serving
) -> None:
    """Positive: what the description allows. Negative: what it forbids."""
    schema = schemathesis.openapi.from_url(f"{talking.url}/openapi.json", config=CONFIG)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing is forbidden where nothing is asked for
            ask()


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
