"""A server on the miniature that answers dialogues, one for all tests of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serving, make_service, ready


@pytest.fixture(scope="session")
def talking(bundles: Path) -> Iterator[Serving]:
    with ready(
        make_service(bundles / "talk-int4", model_names=("talk", "gpt-3.5-turbo"))
    ) as server:
        yield server
