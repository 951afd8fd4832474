"""What the page keeps and sends, with a server that says what the test wants."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browsing import Chat
from tests.runtime.server.page.conftest import Open
from tests.speaking import Speaker


def contents(body: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in body["messages"]]


def exported(chat: Chat, path: Path) -> Path:
    with chat.page.expect_download() as download:
        chat.button("Export").click()
    download.value.save_as(path)
    return path


def imports(chat: Chat, text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
    with chat.page.expect_file_chooser() as chooser:
        chat.button("Import").click()
    chooser.value.set_files(path)


def test_a_reload_keeps_the_conversation_and_goes_on_with_it(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.says("一", "二")
    chat.ask("First")
    chat.page.reload()
    expect(chat.answers).to_have_text(["一二"])
    assert chat.titles == ["First"]
    expect(chat.facts).to_contain_text("12 tokens")
    chat.ask("Second")
    assert contents(speaker.asked[-1]) == [
        ("user", "First"),
        ("assistant", "一二"),
        ("user", "Second"),
    ]


def test_a_reload_in_the_middle_of_an_answer_keeps_what_was_there(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.gate.clear()
    speaker.says("half", " of it")
    chat.send("Say it")
    expect(chat.answers).to_have_text(["half"])
    chat.page.reload()
    expect(chat.answers).to_have_text(["half"])
    expect(chat.facts).to_have_text("stopped")


def test_regenerate_asks_the_same_again(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    chat.ask("Say it")
    speaker.says("Another.")
    chat.button("Regenerate").click()
    expect(chat.answers).to_have_text(["Another."])
    assert [contents(body) for body in speaker.asked] == [[("user", "Say it")]] * 2


def test_an_edited_message_takes_the_place_of_all_that_followed(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    chat.ask("One")
    chat.ask("Two")
    chat.button("Edit").first.click()
    field = chat.page.get_by_label("Change your message")
    expect(field).to_have_value("One")
    field.fill("Uno")
    chat.page.keyboard.press("Enter")
    expect(chat.said).to_have_text(["Uno"])
    chat.settle()
    assert contents(speaker.asked[-1]) == [("user", "Uno")]
    chat.button("Edit").click()
    chat.page.keyboard.press("Escape")
    expect(chat.said).to_have_text(["Uno"])


def test_settings_are_sent_and_kept_and_empty_ones_are_not(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    chat.ask("Plain")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert speaker.asked[-1] == {"messages": [{"role": "user", "content": "Plain"}], **options}
    given = {"Temperature": "0", "Top-p": "0.9", "Max tokens": "64", "Seed": "-7"}
    chat.button("Settings").click()
    for label, value in given.items():
        chat.page.get_by_label(label).fill(value)
    chat.page.get_by_label("System prompt").fill("Be brief.")
    chat.button("Save").click()
    chat.page.reload()
    chat.button("New chat").click()
    chat.ask("Again")
    numbers = {"temperature": 0, "top_p": 0.9, "max_tokens": 64, "seed": -7}
    assert contents(speaker.asked[-1]) == [("system", "Be brief."), ("user", "Again")]
    assert {name: speaker.asked[-1][name] for name in numbers} == numbers
    assert speaker.keys == [None, None]


def test_a_setting_out_of_its_range_is_not_saved(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    chat.button("Settings").click()
    chat.page.get_by_label("Top-p").fill("2")
    chat.button("Save").click()
    expect(chat.page.locator("#settings")).to_be_visible()
    chat.page.keyboard.press("Escape")
    chat.ask("Plain")
    assert "top_p" not in speaker.asked[-1]


def test_conversations_are_found_opened_and_deleted(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    for question, answer in [("Apples?", "Red."), ("Pears?", "GREEN."), ("Plums?", "Blue.")]:
        speaker.says(answer)
        chat.button("New chat").click()
        chat.ask(question)
    assert chat.titles == ["Plums?", "Pears?", "Apples?"]
    chat.page.get_by_label("Search").fill("green")
    assert chat.titles == ["Pears?"]
    chat.button("Pears?").click()
    expect(chat.answers).to_have_text(["GREEN."])
    chat.page.get_by_label("Search").fill("")
    chat.button("Delete “Pears?”").click()
    assert chat.dialogs == ["Delete “Pears?”?"]
    assert chat.titles == ["Plums?", "Apples?"]
    expect(chat.answers).to_have_count(0)
    chat.page.reload()
    assert chat.titles == ["Plums?", "Apples?"]


def test_a_deleted_conversation_stays_deleted_while_it_is_answered(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.gate.clear()
    speaker.says("half", " of it")
    chat.send("Say it")
    expect(chat.answers).to_have_text(["half"])
    chat.button("Delete “Say it”").click()
    speaker.gate.set()
    chat.settle()
    assert chat.titles == []


def test_what_was_exported_can_be_imported_elsewhere(
    speaker: Speaker, open_page: Open, tmp_path: Path
) -> None:
    chat = open_page(speaker.port)
    speaker.says("龘 🦙")
    chat.ask("写一个字")
    file = exported(chat, tmp_path / "chats.json")
    other = open_page(speaker.port)
    imports(other, file.read_text(encoding="utf-8"), tmp_path / "copy.json")
    other.button("写一个字").click()
    expect(other.answers).to_have_text(["龘 🦙"])
    imports(other, file.read_text(encoding="utf-8"), tmp_path / "copy.json")
    expect(other.page.locator("#chats .chat")).to_have_count(2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        '{"chats": 1}',
        '{"chats": [{"messages": []}]}',
        '{"chats": [{"messages": [{"role": "tool", "content": "x"}]}]}',
        '{"chats": [{"messages": [{"role": "user", "content": {}}]}]}',
    ],
)
def test_a_file_of_something_else_is_refused(
    text: str, speaker: Speaker, open_page: Open, tmp_path: Path
) -> None:
    chat = open_page(speaker.port)
    imports(chat, text, tmp_path / "file.json")
    expect(chat.alert).to_have_text("This file holds no conversations.")
    assert chat.titles == []


def test_a_full_storage_is_told_and_the_answer_still_shown(
    speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    chat.page.evaluate("localStorage.setItem('other', 'x'.repeat(5200000))")
    speaker.says("y" * 200_000)
    chat.ask("Long")
    expect(chat.alert).to_contain_text("The browser keeps no more")
    assert len(chat.answers.last.inner_text()) == 200_000


def test_two_tabs_do_not_undo_each_other(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    second = chat.page.context.new_page()
    second.goto(chat.page.url)
    other = Chat(page=second)
    chat.ask("Of the first")
    other.ask("Of the second")
    expect(chat.page.locator("#chats .chat")).to_have_text(["Of the second", "Of the first"])
