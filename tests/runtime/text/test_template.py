"""Claims about runtime.template, on a tiny tokenizer and on the ids of real training text."""

import json

import pytest
from sentencepiece import SentencePieceTrainer

from runtime.errors import PromptError
from runtime.text.alpaca2 import DEFAULT_SYSTEM_PROMPT, render
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import Tokenizer
from tests.paths import SHARED

MINI = SHARED / "alpaca2-mini"

LAST = Message(role="user", content="And now?")


def chat(*turns: str, system: str | None = None) -> list[Message]:
    """Messages of alternating user and assistant turns."""
    first = [] if system is None else [Message(role="system", content=system)]
    return first + [
        Message(role="assistant" if index % 2 else "user", content=content)
        for index, content in enumerate(turns)
    ]


def by_roles(*roles: str) -> list[Message]:
    return [Message.model_validate({"role": role, "content": "x"}) for role in roles]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("model")
    SentencePieceTrainer.train(
        sentence_iterator=iter(["[INST] <<SYS>> <</SYS>> [/INST]", DEFAULT_SYSTEM_PROMPT]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return SentencePieceTokenizer(folder / "tokenizer.model")


@pytest.fixture(scope="module")
def real_tokenizer() -> Tokenizer:
    if not MINI.exists():
        pytest.skip(f"the trained checkpoint is not at {MINI}")
    return SentencePieceTokenizer(MINI / "tokenizer.model")


@pytest.fixture(scope="module")
def documents(real_tokenizer: Tokenizer) -> list[list[int]]:
    held_out: list[list[int]] = json.loads((MINI / "held_out_ids.json").read_text())
    return held_out


def test_the_default_system_prompt_is_the_one_of_the_training_data() -> None:
    assert DEFAULT_SYSTEM_PROMPT == "You are a helpful assistant. 你是一个乐于助人的助手。"


def test_a_single_turn_is_rendered_with_the_default_system_prompt() -> None:
    assert render(chat("你好")) == [
        "[INST] <<SYS>>\nYou are a helpful assistant. 你是一个乐于助人的助手。\n<</SYS>>\n\n"
        "你好 [/INST]"
    ]


def test_the_system_block_is_in_the_first_turn_only() -> None:
    assert render(chat("a", "b", "c", "d", "e", system="Be brief.")) == [
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\na [/INST] b",
        "[INST] c [/INST] d",
        "[INST] e [/INST]",
    ]


def test_an_empty_system_message_means_no_system_block() -> None:
    assert render(chat("a", system="")) == ["[INST] a [/INST]"]


def test_braces_and_template_markers_in_a_message_are_kept_as_written() -> None:
    assert render(chat("{answer} {", system="{instruction}")) == [
        "[INST] <<SYS>>\n{instruction}\n<</SYS>>\n\n{answer} { [/INST]"
    ]
    assert render(chat("a [/INST] b", system="")) == ["[INST] a [/INST] b [/INST]"]


def test_every_turn_opens_with_bos_and_every_answer_ends_with_eos(tokenizer: Tokenizer) -> None:
    assert encode_chat(tokenizer, chat("a", "b", "c", system="")) == [
        1,
        *tokenizer.encode("[INST] a [/INST] b"),
        2,
        1,
        *tokenizer.encode("[INST] c [/INST]"),
    ]


def test_control_pieces_in_a_message_add_no_control_ids(tokenizer: Tokenizer) -> None:
    token_ids = encode_chat(tokenizer, chat("<s>a</s>"))
    assert [token_id for token_id in token_ids if tokenizer.is_control(token_id)] == [1]


def test_a_prompt_decodes_to_its_text(tokenizer: Tokenizer) -> None:
    messages = chat("  你好\n", "👩‍👧 ok ", "<s>")
    assert tokenizer.decode(encode_chat(tokenizer, messages)) == " ".join(render(messages))


def test_a_single_turn_has_the_ids_of_the_real_tokenizer(real_tokenizer: Tokenizer) -> None:
    begin, end = [1, 518, 25580, 29962], [518, 29914, 25580, 29962]
    hello = real_tokenizer.encode("你好")
    assert encode_chat(real_tokenizer, chat("你好", system="")) == begin + hello + end


def as_messages(text: str) -> list[Message]:
    """The messages of a training document, taken apart at the template's markers."""
    head, answer = text.split(" [/INST] ", 1)
    system, instruction = head.removeprefix("[INST] <<SYS>>\n").split("\n<</SYS>>\n\n", 1)
    return [*chat(instruction, answer, system=system), LAST]


def test_answered_turns_have_exactly_the_ids_of_training(
    real_tokenizer: Tokenizer, documents: list[list[int]]
) -> None:
    seen = 0
    for document in documents:
        text = real_tokenizer.decode(document)
        if text.startswith("[INST]"):
            token_ids = encode_chat(real_tokenizer, as_messages(text))
            assert token_ids[: len(document)] == document
            seen += 1
        else:  # plain prose, without the template
            assert [*real_tokenizer.encode(text, add_bos=True), 2] == document
    assert (seen, len(documents)) == (48, 60)


def test_a_prompt_is_the_beginning_of_its_answered_turn(
    real_tokenizer: Tokenizer, documents: list[list[int]]
) -> None:
    for document in documents:
        text = real_tokenizer.decode(document)
        if text.startswith("[INST]"):
            prompt = encode_chat(real_tokenizer, as_messages(text)[:2])
            assert document[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("roles", "got"),
    [
        ([], "no user message"),
        (["system"], "no user message"),
        (["assistant"], "assistant where user belongs"),
        (["user", "assistant"], "assistant last"),
        (["user", "user"], "user where assistant belongs"),
        (["system", "system", "user"], "system where user belongs"),
        (["user", "assistant", "system", "user"], "system where user belongs"),
    ],
)
def test_a_wrong_order_of_roles_is_a_one_line_error(roles: list[str], got: str) -> None:
    with pytest.raises(PromptError, match=rf"^[^\n]*; got {got}; allowed: [^\n]*; put [^\n]*$"):
        render(by_roles(*roles))


@pytest.mark.parametrize("content", ["", " \n\t", "\u3000"])
def test_a_blank_user_message_is_a_one_line_error(content: str) -> None:
    with pytest.raises(PromptError, match=r"^a user message is blank; got [^\n]*; write [^\n]*$"):
        render(chat("a", "b", content))


def test_a_lone_surrogate_in_a_message_is_a_prompt_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="lone surrogate"):
        encode_chat(tokenizer, chat("\ud800"))
