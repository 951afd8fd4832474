"""Claims about chat templates: Alpaca-2's is known in any spelling, others must render."""

import json
from pathlib import Path

import pytest
from jinja2 import Environment

from export.chat_template import ChatTemplate, read_chat_template
from export.errors import CheckpointError
from runtime.text.alpaca2 import DEFAULT_SYSTEM_PROMPT
from tests.chat_templates import TEMPLATES

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
def test_alpaca_2_s_template_is_known_in_any_spelling(
    tmp_path: Path, template: str, place: str
) -> None:
    found = read_chat_template(tmp_path, settings_with(tmp_path, template, place))
    assert found == ChatTemplate(kind="alpaca2")


@pytest.mark.parametrize("template", [CHATML, LLAMA_2, NO_SYSTEM, *TEMPLATES.values()])
@pytest.mark.parametrize("place", ["named", "table", "jinja", "json"])
def test_another_template_is_kept_wherever_transformers_looks_for_it(
    tmp_path: Path, template: str, place: str
) -> None:
    """One character makes it another: the prompts must be those of the training."""
    found = read_chat_template(tmp_path, settings_with(tmp_path, template, place))
    assert found == ChatTemplate(kind="jinja", source=template)


@pytest.mark.parametrize(
    "template", ["", "a", "{{ messages[-1]['content'] }}", "{{ messages[0].content | upper }}"]
)
def test_a_template_that_leaves_messages_out_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(CheckpointError, match="the chat template leaves messages out"):
        read_chat_template(tmp_path, {"chat_template": template})


def test_a_template_may_take_no_system_message(tmp_path: Path) -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    )
    assert read_chat_template(tmp_path, {"chat_template": template}).kind == "jinja"


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
        read_chat_template(tmp_path, {"chat_template": value})


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
        read_chat_template(tmp_path, {"chat_template": template})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_template_without_end_is_stopped(tmp_path: Path) -> None:
    template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(CheckpointError, match=r"cannot be rendered; got .*(steps|limits)"):
        read_chat_template(tmp_path, {"chat_template": template})


def test_no_template_is_none(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path, {}) == ChatTemplate(kind="none")
    assert read_chat_template(tmp_path, {"chat_template": None}) == ChatTemplate(kind="none")
