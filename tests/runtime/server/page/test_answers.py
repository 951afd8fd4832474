"""A conversation with the real server and a small model."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browsing import HOST
from tests.dialogues import AGAIN, BOX, CAPITAL, STEPS
from tests.runtime.server.page.conftest import Open
from tests.serving import Gate, Serving, eventually, is_idle, make_service, ready


class Halting(Gate):
    """Lets as many calls pass as it was told."""

    left = 6

    def run(self, *arguments: Any) -> Any:
        if self.left == 0:
            self.shut()
        self.left -= 1
        return super().run(*arguments)


def test_an_answer_comes_with_its_length_and_its_part_of_the_context(
    server: Serving, open_page: Open
) -> None:
    chat = open_page(server.port)
    assert chat.ask(CAPITAL[0]) == CAPITAL[1]
    facts = r"^11 tokens · ([\d.,]+ per second · )?context 43 of 384 \(11 %\)$"
    expect(chat.facts).to_have_text(re.compile(facts))
    expect(chat.page.locator("h1")).to_have_text("talk")
    expect(chat.page.locator("#prompt")).to_be_focused()


def test_the_conversation_goes_on_with_what_was_said(server: Serving, open_page: Open) -> None:
    chat = open_page(server.port)
    chat.ask(STEPS[0])
    assert chat.answers.locator("li").all_inner_texts() == [
        line.partition(" ")[2] for line in STEPS[1].splitlines()
    ]
    chat.ask(AGAIN[0])
    assert chat.answers.last.locator("li").first.inner_text() == "导出计算图。"


def test_a_stopped_answer_stays_as_far_as_it_came_and_frees_its_slot(
    bundles: Path, open_page: Open
) -> None:
    gates: list[Halting] = []

    def gate(session: Any) -> Halting:
        gates.append(Halting(session))
        return gates[0]

    service = make_service(bundles / "talk-int4", gate, allowed_hosts=(HOST,))
    with ready(service) as server:
        chat = open_page(server.port)
        chat.send(BOX[0])
        expect(chat.answers.last).to_contain_text("An edge")
        assert server.service.model().engines.each[0].scheduler.num_running == 1
        chat.button("Stop").click()
        chat.settle()
        gates[0].left = -1
        gates[0].open.set()
        eventually(server, lambda: is_idle(server))
        assert server.metric("requests_cancelled_total", phase="decode") == 1
        expect(chat.facts).to_have_text("stopped")
        assert BOX[1].startswith(chat.answers.last.inner_text())
        chat.button("Regenerate").click()
        expect(chat.answers.last).to_have_text(BOX[1])


def test_another_conversation_stops_the_answer_too(bundles: Path, open_page: Open) -> None:
    gates: list[Halting] = []

    def gate(session: Any) -> Halting:
        gates.append(Halting(session))
        return gates[0]

    service = make_service(bundles / "talk-int4", gate, allowed_hosts=(HOST,))
    with ready(service) as server:
        chat = open_page(server.port)
        chat.send(BOX[0])
        expect(chat.answers.last).to_contain_text("An edge")
        chat.button("New chat").click()
        gates[0].left = -1
        gates[0].open.set()
        eventually(server, lambda: is_idle(server))
        expect(chat.answers).to_have_count(0)
        assert chat.titles == [BOX[0]]


def test_a_server_without_room_is_shown_and_asked_again(server: Serving, open_page: Open) -> None:
    chat = open_page(server.port)
    with server.service.admitted(server.service.settings.max_requests):
        chat.send(CAPITAL[0])
        expect(chat.alert).to_contain_text("Try again in 1 s")
    chat.button("Try again").click()
    expect(chat.answers.last).to_have_text(CAPITAL[1])
    expect(chat.alert).to_have_count(0)


def test_an_error_in_the_middle_of_an_answer_is_shown(bundles: Path, open_page: Open) -> None:
    class Failing(Gate):
        calls = 0

        def run(self, *arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 7:
                raise OSError("the device is gone")
            return super().run(*arguments)

    service = make_service(bundles / "talk-int4", Failing, allowed_hosts=(HOST,))
    with ready(service) as server:
        chat = open_page(server.port)
        chat.send(BOX[0])
        expect(chat.alert).to_contain_text("The server ended this answer")
        expect(chat.facts).to_have_text("incomplete")
        chat.button("Regenerate").click()
        expect(chat.answers.last).to_have_text(BOX[1])


def test_a_key_is_asked_for_kept_for_the_tab_and_sent(
    bundles: Path, tmp_path: Path, open_page: Open
) -> None:
    key = "correct-horse-battery-staple"
    (tmp_path / "keys").write_text(key)
    service = make_service(
        bundles / "talk-int4", allowed_hosts=(HOST,), api_key_file=tmp_path / "keys"
    )
    with ready(service) as server:
        chat = open_page(server.port)
        expect(chat.page.locator("#state")).to_have_text("This server asks for an API key.")
        chat.send(CAPITAL[0])
        chat.page.get_by_label("API key").fill("wrong" + key)
        chat.button("Save").click()
        expect(chat.page.locator("#state")).to_have_text("The server does not accept this API key.")
        chat.button("Settings").click()
        chat.page.get_by_label("API key").fill(key)
        chat.button("Save").click()
        expect(chat.page.locator("#state")).to_be_hidden()
        chat.button("Try again").click()
        expect(chat.answers.last).to_have_text(CAPITAL[1])
        assert key not in chat.page.evaluate("JSON.stringify(localStorage)")
        chat.page.reload()
        chat.button("Regenerate").click()
        expect(chat.answers.last).to_have_text(CAPITAL[1])
        expect(chat.alert).to_have_count(0)
