"""Claims about chat templates: Alpaca-2's in any spelling is taken, any other is refused."""

import json
from pathlib import Path

import pytest
from jinja2 import Environment

from export.chat_template import check_chat_template
from export.errors import CheckpointError
from runtime.text.template import DEFAULT_SYSTEM_PROMPT

# Written from the repository of Alpaca-2, in two ways.
SYSTEM_FIRST = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = messages[0]['content'] %}{% else %}{% set rest = messages %}"
    f"{{% set system = '{DEFAULT_SYSTEM_PROMPT}' %}}{{% endif %}}"
    "{% for message in rest %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if loop.index0 == 0 %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}"
    "{{ message['content'] + ' [/INST]' }}{% else %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
LOOPED = f"""\
{{%- set ns = namespace(system="{DEFAULT_SYSTEM_PROMPT}", first=true) -%}}
{{%- for m in messages -%}}
  {{%- if m.role == "system" -%}}
    {{%- set ns.system = m.content -%}}
  {{%- elif m.role == "user" -%}}
    {{{{- bos_token -}}}}[INST]{{{{ " " }}}}
    {{%- if ns.first -%}}
      {{{{- "<<SYS>>\\n" ~ ns.system ~ "\\n<</SYS>>\\n\\n" -}}}}
    {{%- endif -%}}
    {{%- set ns.first = false -%}}
    {{{{- m.content ~ " [/INST]" -}}}}
  {{%- elif m.role == "assistant" -%}}
    {{{{- " " ~ m.content ~ eos_token -}}}}
  {{%- else -%}}
    {{{{- raise_exception("no such role") -}}}}
  {{%- endif -%}}
{{%- endfor -%}}
"""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
LLAMA_2 = SYSTEM_FIRST.replace("message['content'] + eos", "message['content'] + ' ' + eos")
NO_SYSTEM = SYSTEM_FIRST.replace(DEFAULT_SYSTEM_PROMPT, "You are a llama.")


def test_the_templates_of_this_file_are_templates() -> None:
    for template in (SYSTEM_FIRST, LOOPED, CHATML, LLAMA_2, NO_SYSTEM):
        Environment().from_string(template)


@pytest.mark.parametrize(
    ("template", "place"), [(SYSTEM_FIRST, "text"), (LOOPED, "text"), (LOOPED, "jinja")]
)
def test_alpaca_2_s_template_is_taken_in_any_spelling(
    tmp_path: Path, template: str, place: str
) -> None:
    check_chat_template(tmp_path, settings_with(tmp_path, template, place))


@pytest.mark.parametrize(
    ("template", "got"),
    [
        (CHATML, "'<|im_start|>system"),
        (LLAMA_2, "。 </s><s>[INST] And now?"),
        (NO_SYSTEM, " a llama.\\n<</SYS>>"),
        ("", "''"),
        ("{{ messages[-1]['content'] }}", "'Where is the box?'"),
    ],
    ids=["chatml", "llama 2", "another system prompt", "empty", "bare"],
)
def test_another_template_is_refused_with_the_place_where_it_parts(
    tmp_path: Path, template: str, got: str
) -> None:
    """The prompts of another model's training were written in Alpaca-2's way."""
    assert got in refusal(tmp_path, {"chat_template": template})


@pytest.mark.parametrize("place", ["named", "table", "jinja", "json"])
def test_a_template_is_found_wherever_transformers_looks_for_it(tmp_path: Path, place: str) -> None:
    assert "<|im_start|>" in refusal(tmp_path, settings_with(tmp_path, CHATML, place))


def refusal(model: Path, settings: dict[str, object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        check_chat_template(model, settings)
    message = str(caught.value)
    assert str(model) in message
    assert "the chat template is not Alpaca-2's; got " in message
    assert "\n" not in message
    return message


def settings_with(model: Path, template: str, place: str) -> dict[str, object]:
    """What tokenizer_config.json says, for a template in any of its places."""
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
    if place == "jinja":
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
        return {"chat_template": "what is in the file goes first"}
    if place == "json":
        (model / "chat_template.json").write_text(json.dumps({"chat_template": template}))
        return {}
    places: dict[str, object] = {
        "text": template,
        "named": named,
        "table": {"default": template, "rag": "x"},
    }
    return {"chat_template": places[place]}


@pytest.mark.parametrize("value", [7, [], {}, {"tool_use": SYSTEM_FIRST}, [SYSTEM_FIRST], True])
def test_a_template_that_is_no_text_is_refused_by_name(tmp_path: Path, value: object) -> None:
    with pytest.raises(CheckpointError, match="chat_template has no default that is a text"):
        check_chat_template(tmp_path, {"chat_template": value})


@pytest.mark.parametrize(
    "template",
    [
        "{% if",
        "{{ raise_exception('no system role') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'x' * 10**10 }}",
        "{% set x = 'xxxxxxxx' %}" + "{% set x = x + x %}" * 40,
        "{{ missing.attribute }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused_in_one_line(
    tmp_path: Path, template: str
) -> None:
    with pytest.raises(CheckpointError, match="cannot be rendered") as caught:
        check_chat_template(tmp_path, {"chat_template": template})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_template_without_end_is_stopped(tmp_path: Path) -> None:
    template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(CheckpointError, match="cannot be rendered; got no answer within"):
        check_chat_template(tmp_path, {"chat_template": template})


def test_no_template_is_nothing_to_check(tmp_path: Path) -> None:
    check_chat_template(tmp_path, {})
    check_chat_template(tmp_path, {"chat_template": None})
