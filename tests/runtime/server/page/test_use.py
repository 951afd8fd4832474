"""How the page is used: keys, languages, colours, phones, screen readers, servers in trouble."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browsing import Chat
from tests.runtime.server.page.conftest import Open
from tests.speaking import Speaker

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
MARKDOWN = "# Title\n\n- **a** `b`\n\n> quote\n\n```python\nprint(1)\n```\n1. *one*"


def test_enter_that_ends_a_composition_does_not_send(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    keyboard = chat.page.context.new_cdp_session(chat.page)
    chat.page.locator("#prompt").focus()
    keyboard.send(
        "Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6}
    )
    chat.page.evaluate(
        "addEventListener('keydown', (e) => { window.composing = e.isComposing; }, true)"
    )
    chat.page.keyboard.press("Enter")
    assert chat.page.evaluate("composing") is True
    expect(chat.said).to_have_count(0)
    assert speaker.asked == []
    keyboard.send("Input.insertText", {"text": "你好"})
    chat.send("你好")
    expect(chat.said).to_have_text(["你好"])


def test_shift_and_enter_begin_a_line_and_nothing_is_sent_without_words(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    chat.send("  \n ")
    expect(chat.said).to_have_count(0)
    chat.type("one")
    chat.page.keyboard.press("Shift+Enter")
    chat.page.keyboard.type("two")
    chat.page.keyboard.press("Enter")
    expect(chat.said).to_have_text(["one\ntwo"], use_inner_text=True)


def test_a_second_message_waits_for_the_answer_to_the_first(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.gate.clear()
    chat.send("One")
    chat.send("Two")
    speaker.gate.set()
    chat.settle()
    expect(chat.said).to_have_text(["One"])
    expect(chat.page.locator("#prompt")).to_have_value("Two")


def test_the_speed_is_that_of_the_tokens_after_the_first(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    chat.page.clock.install()
    speaker.gate.clear()
    speaker.says("one", " twelve")
    chat.send("x")
    expect(chat.answers).to_have_text(["one"])
    chat.page.clock.fast_forward(110_000)
    speaker.gate.set()
    expect(chat.facts).to_have_text("12 tokens · 0.1 per second · context 42 of 2,048 (2 %)")


@pytest.mark.parametrize("end", [OSError("cut"), EOFError()], ids=["cut", "closed"])
def test_a_lost_connection_keeps_what_was_there(
    end: Exception, speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.gate.clear()
    speaker.says("half", end)
    chat.send("x")
    expect(chat.answers).to_have_text(["half"])
    speaker.gate.set()
    expect(chat.alert).to_have_text("The connection was lost.")
    expect(chat.answers).to_have_text(["half"])
    expect(chat.facts).to_have_text("incomplete")
    chat.errors.clear()


@pytest.mark.parametrize(
    ("status", "headers", "shown"),
    [
        (503, {"Retry-After": "7"}, "Try again in 7 s. (no room)"),
        (503, {}, "The server answered with an error: no room"),
        (400, {}, "The server answered with an error: no room"),
    ],
)
def test_a_refusal_is_shown_and_the_message_can_be_sent_again(
    status: int, headers: dict[str, str], shown: str, speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.error = (status, {"error": {"message": "no room"}}, headers)
    chat.send("x")
    expect(chat.alert).to_contain_text(shown)
    expect(chat.answers).to_have_count(0)
    speaker.error = None
    chat.button("Try again").click()
    expect(chat.answers).to_have_text(["Hello."])


def test_a_server_that_is_loading_is_watched_until_it_is_ready(
    speaker: Speaker, open_page: Open
) -> None:
    speaker.health = {"status": "loading", "step": "checking files", "progress": 0.42}
    chat = open_page(speaker.port)
    state = chat.page.locator("#state")
    expect(state).to_have_text("The model is loading: checking files 42 %")
    speaker.health = {"status": "ready", "step": None, "progress": None}
    expect(state).to_be_hidden()
    expect(chat.page.locator("h1")).to_have_text("speaker")


def test_chinese_where_the_browser_is_and_english_on_demand(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port, locale="zh-CN")
    assert chat.page.locator("html").get_attribute("lang") == "zh-CN"
    speaker.says("好")
    chat.type("你好")
    chat.button("发送").click()
    expect(chat.facts).to_contain_text(re.compile(r"上下文 42 / 2,048（2 %）"))
    visible = chat.page.locator("body").inner_text()
    assert not re.search(r"[a-z]{3}", visible.replace("speaker", "").replace("English", ""))
    chat.button("English").click()
    expect(chat.facts).to_contain_text("context 42 of 2,048 (2 %)")
    chat.page.reload()
    expect(chat.button("Send")).to_be_visible()


def test_dark_as_the_computer_is_and_as_the_reader_likes(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = chat.page.evaluate(ground)
    chat.button("Dark or light").click()
    light = chat.page.evaluate(ground)
    assert (dark, light) == ("rgb(22, 25, 27)", "rgb(255, 255, 255)")
    chat.page.reload()
    assert chat.page.evaluate(ground) == light


def test_a_phone_shows_all_of_it_without_sideways_scrolling(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port, **PHONE)
    speaker.says("w" * 300 + "\n```\n" + "x" * 300 + "\n```")
    chat.ask("m" * 200)
    assert chat.page.evaluate("document.scrollingElement.scrollWidth") == 360
    expect(chat.page.locator("#side")).not_to_be_in_viewport()
    chat.button("Open history").click()
    chat.button("New chat").click()
    expect(chat.answers).to_have_count(0)
    expect(chat.page.locator("#side")).not_to_be_in_viewport()


def empty(chat: Chat) -> None:
    pass


def talk(chat: Chat) -> None:
    chat.ask("Show it")


def open_settings(chat: Chat) -> None:
    chat.button("Settings").click()


def edit(chat: Chat) -> None:
    talk(chat)
    chat.button("Edit").click()


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE], ids=str)
@pytest.mark.parametrize("does", [empty, talk, open_settings, edit])
def test_nothing_keeps_anybody_out(
    does: Callable[[Chat], None],
    options: dict[str, str],
    speaker: Speaker,
    open_page: Open,
) -> None:
    chat = open_page(speaker.port, **options)
    speaker.says(MARKDOWN)
    does(chat)
    found = Axe().run(chat.page)
    assert found.violations_count == 0, found.generate_report()


def test_the_keyboard_alone_is_enough(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    speaker.says(MARKDOWN)
    chat.ask("Show it")
    for _ in range(3):  # from the message field over its button to the beginning, and on
        chat.page.keyboard.press("Tab")
    chat.page.keyboard.press("Shift+Tab")
    reached = set()
    for _ in range(30):
        chat.page.keyboard.press("Tab")
        reached.add(
            chat.page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.innerText"
            )
        )
    wanted = {"New chat", "Search", "Show it", "Delete “Show it”", "Export", "Import", "中文"}
    wanted |= {"Dark or light", "Settings", "Messages", "Copy", "Edit", "Copy code", "Regenerate"}
    assert wanted | {"Message", "Send"} <= reached
