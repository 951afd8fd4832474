"""Claims about saved conversations: they come back as they were, and nothing else is read."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.commands.chat_file import SavedChat, load_chat, save_chat
from runtime.errors import UserError
from runtime.text.conversation import Conversation, Turn

TEXT = st.text(st.characters(codec="utf-8"))
TURN = st.builds(Turn, TEXT.filter(str.strip), TEXT)
CHATS = st.builds(
    SavedChat,
    st.builds(Conversation, system=st.none() | TEXT, turns=st.lists(TURN).map(tuple)),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 100),
            "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
            "logit_bias": st.dictionaries(st.integers(0, 9), st.floats(-100, 100)),
            "stop_token_ids": st.lists(st.integers(0, 9)).map(tuple),
            "ignore_eos": st.booleans(),
        },
    ),
)
SAVED = SavedChat(Conversation(system="").answered("你好", "a\nb"), {"temperature": 0.2})


def written(file: Path, **changes: Any) -> Path:
    """A saved conversation with some keys changed; None leaves one out."""
    save_chat(file, SAVED)
    document = json.loads(file.read_bytes()) | changes
    kept = {key: value for key, value in document.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")
    return file


@given(CHATS)
def test_what_was_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, chat: SavedChat
) -> None:
    file = tmp_path_factory.getbasetemp() / "chat.json"
    save_chat(file, chat)
    assert load_chat(file) == chat


def test_the_document_says_its_format_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    save_chat(file, SAVED)
    document = json.loads(file.read_bytes())
    assert (document["format"], document["version"]) == ("alpaca2-chat", 1)
    assert document["messages"][1] == {"role": "user", "content": "你好"}
    assert document["settings"] == {"temperature": 0.2}
    assert "你好" in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_only_an_earlier_conversation_is_replaced(tmp_path: Path) -> None:
    file = written(tmp_path / "chat.json", messages=[])
    save_chat(file, SAVED)
    assert load_chat(file) == SAVED
    notes = tmp_path / "notes.txt"
    notes.write_bytes(b"my notes")
    (tmp_path / "link").symlink_to(file)
    for other in (notes, tmp_path):
        with pytest.raises(UserError, match=r"is there and no saved conversation; choose another"):
            save_chat(other, SAVED)
    assert notes.read_bytes() == b"my notes"
    with pytest.raises(UserError, match="is a link"):
        save_chat(tmp_path / "link", SAVED)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is no saved conversation; allowed: a file of format alpaca2-chat"),
        (b"{}", "is no saved conversation"),
        (b'{"format": "alpaca2-bench", "version": 1}', "is no saved conversation"),
        (b'{"format": "alpaca2-chat"}', "is of another version; got null; allowed: 1"),
        (b'{"format": "alpaca2-chat", "version": 2}', "is of another version; got 2; allowed: 1"),
        (b'{"format": "alpaca2-chat", "format": 1}', "the key 'format' stands twice"),
        (b"[" * 100_000, "is not JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "is a git-lfs pointer"),
    ],
)
def test_a_file_that_is_no_conversation_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_bytes(data)
    with pytest.raises(UserError) as refusal:
        load_chat(file)
    assert str(refusal.value).startswith(f"{file} {says}") or says in str(refusal.value)


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"messages": None}, "messages: Field required"),
        ({"messages": [USER]}, "the messages are not in order; got user where assistant belongs"),
        ({"messages": [ANSWER]}, "the messages are not in order"),
        ({"messages": [{**USER, "content": " "}, ANSWER]}, "a user message is blank"),
        ({"messages": [{**USER, "role": "tool"}, ANSWER]}, "messages.0.role: "),
        ({"messages": [{**USER, "name": "x"}, ANSWER]}, "unknown key messages.0.name"),
        ({"messages": [{**USER, "content": 1}, ANSWER]}, "messages.0.content: "),
        ({"settings": {"temperature": 101}}, "temperature: Input should be less than"),
        ({"settings": {"temperature": "1"}}, "temperature: Input should be a valid number"),
        ({"settings": {"colour": 1}}, "no setting colour; allowed: max_tokens, "),
        ({"settings": {"logprobs": 1}}, "no setting logprobs; allowed: max_tokens, "),
        ({"settings": {"stop_token_ids": ["a"]}}, "stop_token_ids: 0: Input should be a valid"),
        ({"settings": {"logit_bias": {"5": 101}}}, "logit_bias: 5: Input should be less than"),
        ({"settings": []}, "settings: "),
        ({"more": 1}, "unknown key more"),
    ],
)
def test_a_conversation_that_contradicts_itself_is_refused_by_name(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "chat.json", **changes)
    with pytest.raises(UserError) as refusal:
        load_chat(file)
    assert str(refusal.value).startswith(f"{file}: {says}")


def test_a_file_that_is_not_there_or_has_no_possible_name_is_named(tmp_path: Path) -> None:
    for name, says in ("absent", "missing"), ("x" * 300, "cannot read"), ("a\0b", "missing"):
        with pytest.raises(UserError, match=says):
            load_chat(tmp_path / name)
