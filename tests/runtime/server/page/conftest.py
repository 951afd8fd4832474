"""A browser for all tests; make page-test says which. Without one, nothing here is collected."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsing import HOST, Chat, open_chat
from tests.serving import Serving, make_service, ready
from tests.speaking import Speaker, speaking

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., Chat]
PATIENCE = 8_000  # ms; a test that waits so long fails
if "CHROMIUM" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"],
            args=[*sandbox, f"--host-resolver-rules=MAP {HOST} 127.0.0.1"],
        )


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    """Opens the page of a server; at the end, nothing went wrong in it or left its origin."""
    opened: list[Chat] = []

    def open_page(port: int, **options: Any) -> Chat:
        opened.append(open_chat(browser, port, **options))
        return opened[-1]

    yield open_page
    for chat in opened:
        chat.page.context.close()
    assert [chat.errors for chat in opened] == [[]] * len(opened)
    assert [chat.elsewhere for chat in opened] == [[]] * len(opened)


@pytest.fixture(scope="session")
def server(bundles: Path) -> Iterator[Serving]:
    """The real server, on the miniature that answers dialogues."""
    service = make_service(bundles / "talk-int4", model_names=("talk",), allowed_hosts=(HOST,))
    with ready(service) as running:
        yield running


@pytest.fixture(scope="session")
def running_speaker() -> Iterator[Speaker]:
    with speaking() as running:
        yield running


@pytest.fixture
def speaker(running_speaker: Speaker) -> Speaker:
    """A server that says what the test wants."""
    running_speaker.reset()
    return running_speaker
