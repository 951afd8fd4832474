"""How the page shows what a model writes."""

import pytest

from tests.runtime.server.page.conftest import Open
from tests.speaking import Speaker

CASES = {
    "a\nb\n\nc": "<p>a<br>b</p><p>c</p>",
    "# 标题\n### Less": "<h2>标题</h2><h4>Less</h4>",
    "#hash": "<p>#hash</p>",
    "**北京**是*首*`都`。": "<p><strong>北京</strong>是<em>首</em><code>都</code>。</p>",
    "2 * 3 * 4 and 2**3": "<p>2 * 3 * 4 and 2**3</p>",
    "snake_case_name": "<p>snake_case_name</p>",
    "**a *b* c**": "<p><strong>a <em>b</em> c</strong></p>",
    "**unfinished": "<p>**unfinished</p>",
    "``a`b``": "<p><code>a`b</code></p>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "1. a\n   more\n\n2. b": "<ol><li>a more</li><li>b</li></ol>",
    "text\n- a": "<p>text</p><ul><li>a</li></ul>",
    "> a\n> - b": "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>",
    "---": "<hr>",
    "x < y & z": "<p>x &lt; y &amp; z</p>",
}


def test_markdown_becomes_elements(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    shown = {}
    for text in CASES:
        chat.button("New chat").click()
        speaker.says(text)
        chat.ask("x")
        shown[text] = chat.answers.last.inner_html().replace(' start="1"', "")
    assert shown == CASES


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("```python\nprint(1)\n\n  x\n```", "python", "print(1)\n\n  x"),
        ("```\n# no heading\n**no bold**", "", "# no heading\n**no bold**"),
        ("~~~~ c++\n~~~\n~~~~", "c++", "~~~"),
        ("1. Do\n   ```sh\n   ls\n     -l\n   ```\n2. Done", "sh", "ls\n  -l"),
    ],
)
def test_code_is_shown_as_it_is(
    text: str, language: str, code: str, speaker: Speaker, open_page: Open
) -> None:
    chat = open_page(speaker.port)
    speaker.says(*text)
    chat.ask("x")
    block = chat.answers.last.locator(".code")
    assert block.locator("code").inner_text() == code
    assert block.locator("span").inner_text() == language


def test_code_and_answers_can_be_copied(speaker: Speaker, open_page: Open) -> None:
    chat = open_page(speaker.port)
    text = "See:\n```python\nprint('龘')\n```"
    speaker.says(text)
    chat.ask("x")
    for button, copied in ((chat.button("Copy code"), "print('龘')"), (chat.button("Copy"), text)):
        button.last.click()
        chat.page.locator("#prompt").fill("")
        chat.page.locator("#prompt").press("Control+V")
        assert chat.page.locator("#prompt").input_value() == copied


def test_what_is_shown_already_is_not_made_again(speaker: Speaker, open_page: Open) -> None:
    """Else a reader's selection would be lost with every token."""
    chat = open_page(speaker.port)
    speaker.gate.clear()
    speaker.says("First.\n\nSecond", " and last.")
    chat.send("x")
    chat.answers.last.get_by_text("Second").wait_for()
    chat.page.evaluate(
        """() => {
          window.first = document.querySelector(".assistant p");
          const look = () => (window.kept = first.isConnected && first.nextSibling.textContent);
          new MutationObserver(look).observe(first.parentNode, { childList: true });
        }"""
    )
    speaker.gate.set()
    chat.settle()
    assert chat.page.evaluate("kept") == "Second and last."
