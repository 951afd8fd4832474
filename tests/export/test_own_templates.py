"""Claims about prompts of a checkpoint's own template: those of transformers, to the id."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from runtime.text.hf_tokenizer import HfTokenizer
from runtime.text.jinja_template import JinjaTemplate
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import Tokenizer
from tests.chat_templates import TEMPLATES
from tests.hf_tokenizers import BOS, CONTROL, END, MAKERS, added_of, save

HF: Any = PreTrainedTokenizerFast  # which has no types
# No name of a control token: there transformers reads one, or sanitizes it.
AWKWARD = [
    "你好",
    "🦙",
    "é",
    " ",
    "\n",
    "\n\n",
    "<think>",
    "</think>",
    "'quoted'",
    "{{ bos_token }}",
    "<|",
]
TEXT = st.lists(st.sampled_from(AWKWARD) | st.text("ab &<>\\", max_size=5), max_size=6).map("".join)


@pytest.fixture(scope="module", params=[(m, t) for m in MAKERS for t in TEMPLATES], ids="-".join)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp("model")
    maker, name = request.param
    library = MAKERS[maker]()
    file = save(library, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATES[name], encoding="utf-8")
    template = JinjaTemplate(folder / "chat_template.jinja", datetime.now)
    theirs = HF(
        tokenizer_file=str(file),
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=list(CONTROL),
        chat_template=TEMPLATES[name],
    )
    return HfTokenizer(file, added_of(library, bos=BOS), template), theirs


@given(contents=st.lists(TEXT, min_size=1, max_size=5), system=st.none() | TEXT)
@settings(max_examples=60)
def test_prompts_are_those_of_transformers(
    pair: tuple[Tokenizer, PreTrainedTokenizerFast], contents: list[str], system: str | None
) -> None:
    ours, theirs = pair
    messages = [] if system is None else [{"role": "system", "content": system}]
    for i, content in enumerate(contents):
        messages.append({"role": "assistant" if i % 2 else "user", "content": content})
    asked = [Message.model_validate(message) for message in messages]
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours.template.text(ours, asked) == text
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    assert encode_chat(ours, asked) == expected


def test_a_directory_of_transformers_is_read_as_it_reads_it(tmp_path: Path) -> None:
    from export.tokenizer_files import read_tokenizer
    from tests.models import TINY

    library = MAKERS["byte_level"]()
    saved = HF(
        tokenizer_object=library, bos_token=BOS, eos_token=END, chat_template=TEMPLATES["chatml"]
    )
    saved.save_pretrained(tmp_path)
    rows = TINY.model_copy(update={"vocab_size": library.get_vocab_size()})
    files = read_tokenizer(tmp_path, rows)
    assert (files.kind, files.template) == ("tokenizers", "jinja")
    assert files.eos_token_id == saved.eos_token_id
    assert files.files["chat_template.jinja"].decode() == TEMPLATES["chatml"]
