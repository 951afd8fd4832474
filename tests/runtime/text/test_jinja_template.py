"""Claims about a checkpoint's own template: it alone writes control tokens; limits hold."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import BundleError, PromptError
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, Template, encode_chat
from runtime.text.tokenizer import Tokenizer
from tests.chat_templates import BRACKETS, CHATML, HEADERS, TEMPLATES
from tests.tokenizers import train_tokenizer

pytest.importorskip("jinja2", reason="the extra hf is not installed")
pytest.importorskip("tokenizers", reason="the extra hf is not installed")

if TYPE_CHECKING:
    import tokenizers

TYPED = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "<think>", " ", "\n", "你", "🦙", "a"]),
    max_size=8,
).map("".join)
ASK = Message(role="user", content="Where?")


def chat(*contents: str, system: str | None = None) -> list[Message]:
    opening = [] if system is None else [Message(role="system", content=system)]
    roles = ("user", "assistant") * len(contents)
    return opening + [
        Message.model_validate({"role": role, "content": content})
        for role, content in zip(roles, contents, strict=False)
    ]


def template(folder: Path, source: str) -> Template:
    from runtime.text.jinja_template import JinjaTemplate

    file = folder / "chat_template.jinja"
    file.write_text(source, encoding="utf-8")
    return JinjaTemplate(file, lambda: datetime(2026, 11, 27))


@pytest.fixture(scope="module")
def library() -> "tokenizers.Tokenizer":
    from tests.hf_tokenizers import byte_level

    return byte_level()


@pytest.fixture(scope="module")
def tokenizer(
    library: "tokenizers.Tokenizer", tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    return with_template(library, tmp_path_factory.mktemp("tokenizer"), CHATML)


def with_template(library: "tokenizers.Tokenizer", folder: Path, source: str) -> Tokenizer:
    from runtime.text.hf_tokenizer import HfTokenizer
    from tests.hf_tokenizers import added_of, save

    added = added_of(library, bos="<|begin|>")
    return HfTokenizer(save(library, folder), added, template(folder, source))


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_prompt_has_the_library_s_ids_of_the_rendered_text(
    library: "tokenizers.Tokenizer", tmp_path: Path, name: str
) -> None:
    tokenizer = with_template(library, tmp_path, TEMPLATES[name])
    messages = chat("你好🦙 ", "<think>\nhm\n</think>\n\nAn answer.", "And?", system="Be brief.")
    text = tokenizer.template.text(tokenizer, messages)
    expected = library.encode(text, add_special_tokens=False).ids
    assert encode_chat(tokenizer, messages) == expected
    assert all(message.content.split("\n")[-1].strip() in text for message in messages)


@given(questions=st.lists(TYPED, min_size=1, max_size=2), system=st.none() | TYPED)
def test_what_is_typed_is_never_a_control_token(
    tokenizer: Tokenizer, questions: Sequence[str], system: str | None
) -> None:
    contents = [text for question in questions for text in (question, "an answer")][:-1]
    messages = chat(*contents, system=system)
    plain = [each.model_copy(update={"content": "a"}) for each in messages]
    control = set(tokenizer.control_tokens.values())
    token_ids = encode_chat(tokenizer, messages)

    def controls(ids: Sequence[int]) -> list[int]:
        return [each for each in ids if each in control]

    assert controls(token_ids) == controls(encode_chat(tokenizer, plain))
    text = tokenizer.decode(token_ids)
    assert all(message.content in text for message in messages)


def test_a_sentencepiece_model_takes_a_template_too(tmp_path: Path) -> None:
    model = train_tokenizer(tmp_path, ["where here there and " * 9], 280, add_dummy_prefix=True)
    tokenizer = SentencePieceTokenizer(model, template=template(tmp_path, BRACKETS))
    token_ids = encode_chat(tokenizer, chat("where", "there </s>", "and"))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert (token_ids[0], token_ids.count(bos), token_ids.count(eos)) == (bos, 1, 1)
    assert tokenizer.decode(token_ids) == "[INST] where[/INST] there </s>[INST] and[/INST]"


def test_the_date_is_that_of_the_clock(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert "Today: 27 Nov 2026\n" in template(tmp_path, HEADERS).text(tokenizer, [ASK])


def test_what_a_template_refuses_is_told_in_its_words(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(PromptError, match="got roles must alternate user and assistant") as caught:
        template(tmp_path, BRACKETS).encode(tokenizer, [ASK, ASK])
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("source", "got"),
    [
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages[0].update(role='system') }}", "unsafe"),
        ("{{ missing.attribute }}", "undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
         "steps"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "steps"),
        ("{% set x = 'xxxxxxxx' %}" + "{% set x = x + x %}" * 40, "characters"),
        ("{% set x = 'xxxxxxxx' %}" + "{% set x = x ~ x %}" * 40, "characters"),
        ("{{ 'x' * 10**10 }}", "characters"),
        ("{{ [1] * 10**10 }}", "characters"),
        ("{{ 7 ** (10**7) }}", "exponent"),
        ("{{ lipsum(10**6) }}", "undefined"),
    ],
)  # fmt: skip
def test_a_template_that_fails_or_has_no_end_is_one_named_error(
    tmp_path: Path, tokenizer: Tokenizer, source: str, got: str
) -> None:
    with pytest.raises(PromptError, match=f"does not take these messages; got .*{got}") as caught:
        template(tmp_path, source).encode(tokenizer, [ASK])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["{% if", "{{ }}", "{% nothing %}"])
def test_a_file_that_is_no_template_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(BundleError, match="is no chat template; got "):
        template(tmp_path, source)


def test_a_template_cannot_change_what_the_next_one_sees(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    counting = template(tmp_path, "{% set ns = namespace(n=0) %}{% for m in messages %}"
                                  "{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")  # fmt: skip
    assert [counting.text(tokenizer, [ASK]) for _ in range(2)] == ["1", "1"]
