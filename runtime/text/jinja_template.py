"""A Template that a checkpoint brings, in Jinja; jinja2 is imported here alone.

Rendered with what transformers gives such templates, in a sandbox: no attributes of Python, and
limits for loops and texts, since others wrote it.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from runtime.errors import BundleError, PromptError
from runtime.json_file import as_text, first_line, read_file
from runtime.text.template import Encoder, Message

__all__ = ["JinjaTemplate", "Sandbox"]

MAX_STEPS = 100_000  # turns of all loops and calls of macros in one rendering
MAX_EXPONENT = 100
MAX_CHARACTERS = 1 << 24  # of a text that a template joins; 16 million are the longest contexts
NEXT_STEP = "send messages that the model was trained with: see chat_template.jinja of the bundle"
STEPS = "a count of steps"  # a name that no template can write

Render = Callable[[Sequence[dict[str, str]], dict[str, str]], str]  # messages, names of tokens


class JinjaTemplate:
    """A Template; see there for its methods.

    What a message says is never a control token: a name of one in it is broken while the template
    is rendered, so that only those count that the template wrote.

    Args:
        path: the file.
        now: the clock that strftime_now reads.

    Raises:
        BundleError: the file is missing or no template.
    """

    default_system_prompt = None

    def __init__(self, path: Path, now: Callable[[], datetime] = datetime.now) -> None:
        data = read_file(path, BundleError)
        try:
            self._render_messages = Sandbox(now).compiled(as_text(data))
        except (TemplateError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(
                f"{path} is no chat template",
                got=first_line(error),
                next_step="make the bundle again",
            ) from error

    def text(self, tokenizer: Encoder, messages: Sequence[Message]) -> str:
        return self._render(tokenizer, [message.model_dump() for message in messages])

    def encode(self, tokenizer: Encoder, messages: Sequence[Message]) -> list[int]:
        ids = tokenizer.control_tokens
        names = _any_of(ids)
        wedge = secrets.token_hex(16)  # nobody can guess it, so no text has it

        def broken(text: str) -> str:
            return names.sub(lambda name: f"{name[0][0]}{wedge}{name[0][1:]}", text)

        typed = [{"role": each.role, "content": broken(each.content)} for each in messages]
        text = self._render(tokenizer, typed)
        parts: list[str | int] = []
        end = 0
        for name in names.finditer(text):
            parts += [text[end : name.start()].replace(wedge, ""), ids[name[0]]]
            end = name.end()
        parts.append(text[end:].replace(wedge, ""))
        return tokenizer.encode_parts([part for part in parts if part != ""])

    def _render(self, tokenizer: Encoder, messages: Sequence[dict[str, str]]) -> str:
        roles = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
        names = {role: tokenizer.name(each) for role, each in roles.items() if each is not None}
        try:
            return self._render_messages(messages, names)
        except Exception as error:  # whatever a text of others does
            raise PromptError(
                "the model's chat template does not take these messages",
                got=first_line(error)[:200],
                next_step=NEXT_STEP,
                param="messages",
            ) from error


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Finds names, at each place the longest."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up, with limits.

    Args:
        now: the clock that strftime_now reads.
    """

    intercepted_binops = frozenset(("+", "*", "**"))

    def __init__(self, now: Callable[[], datetime] = datetime.now) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda form: now().strftime(form)
        del self.globals["lipsum"]  # which writes as much as it is asked for

    def compiled(self, source: str) -> Render:
        """Compiles a template.

        Raises:
            TemplateError: it is none.
        """
        tree = _Limited().visit(self.parse(source))
        code = self.compile(tree)
        template = self.template_class.from_code(self, code, self.make_globals(None))

        def render(messages: Sequence[dict[str, str]], names: dict[str, str]) -> str:
            given = {"tools": None, "documents": None, "add_generation_prompt": True, **names}
            return template.render({**given, "messages": messages, STEPS: count(1)})

        return render

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuses what makes a long text or number of short ones."""
        sizes = [len(each) for each in (left, right) if isinstance(each, str | list | tuple)]
        if operator == "+":
            _check_size(sum(sizes))
        elif operator == "*" and sizes:
            _check_size(max(sizes) * next((each for each in (left, right) if type(each) is int), 0))
        elif operator == "**" and abs(right) > MAX_EXPONENT:
            raise TemplateError(f"an exponent of more than {MAX_EXPONENT}")
        return super().call_binop(context, operator, left, right)

    def step(self, context: Context) -> None:
        """Takes one of the steps that a rendering has."""
        if next(context.parent[STEPS]) > MAX_STEPS:
            raise TemplateError(f"more than {MAX_STEPS} steps")

    def joined(self, values: Sequence[Any]) -> str:
        """What the operator ~ gives."""
        texts = list(map(str, values))
        _check_size(sum(map(len, texts)))
        return "".join(texts)


class _Generation(Extension):
    """{% generation %}, which marks answers for training: its body alone counts."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Limited(NodeTransformer):
    """Counts the turns of loops and the calls of macros, and measures joined texts."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  # the visitor's name
        return self._counted(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._counted(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._counted(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("joined", nodes.List(node.nodes), node.lineno)

    def _counted(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        step = _call("step", nodes.ContextReference(), node.lineno)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node


def _call(method: str, argument: nodes.Expr, lineno: int) -> nodes.Call:
    """A call of a method of the environment, which no template can name."""
    attribute = nodes.EnvironmentAttribute(method)
    return nodes.Call(attribute, [argument], [], None, None, lineno=lineno)


def _check_size(size: int) -> None:
    if size > MAX_CHARACTERS:
        raise TemplateError(f"a text or list of more than {MAX_CHARACTERS} characters or items")


def _refuse(message: str) -> NoReturn:
    """What a template calls that does not take a conversation."""
    raise TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
