"""The chat page in a browser, in the words of one who uses it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Locator, Page, Route

HOST = "box.example"  # the browser's name for this computer: no secure context, as on most boxes
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));
"""


@dataclass(kw_only=True)
class Chat:
    """A page, and what happened to it.

    errors: of its scripts, and what the browser wrote of them.
    elsewhere: addresses of other origins that it asked for.
    dialogs: that it opened; each is accepted.
    """

    page: "Page"
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def type(self, text: str) -> None:
        self.page.locator("#prompt").fill(text)

    def send(self, text: str) -> None:
        """Types and sends a message; does not wait for the answer."""
        self.type(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str) -> str:
        """Sends a message; gives the answer once it is complete."""
        self.send(text)
        self.settle()
        answer: str = self.answers.last.inner_text()
        return answer

    def settle(self) -> None:
        """Waits until no answer is coming."""
        self.page.locator('#messages[aria-busy="false"]').wait_for()

    def button(self, name: str) -> "Locator":
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def answers(self) -> "Locator":
        return self.page.locator("article.assistant .text")

    @property
    def said(self) -> "Locator":
        return self.page.locator("article.user .text")

    @property
    def facts(self) -> "Locator":
        """What stands below the last answer."""
        return self.page.locator("article.assistant footer .faint").last

    @property
    def alert(self) -> "Locator":
        return self.page.get_by_role("alert")

    @property
    def titles(self) -> list[str]:
        """Of the conversations that are listed."""
        found: list[str] = self.page.locator("#chats .chat").all_inner_texts()
        return found

    def violations(self) -> list[str]:
        """What the browser refused because of the page's policy."""
        found: list[str] = self.page.evaluate("violations")
        return found


def open_chat(browser: "Browser", port: int, **options: Any) -> Chat:
    """Opens the page of a server in a context of its own, with an empty history."""
    origin = f"http://{HOST}:{port}/"
    context = browser.new_context(**{"locale": "en-GB", **options})
    context.add_init_script(WATCH)
    page = context.new_page()
    chat = Chat(page=page)

    def pass_on(route: "Route") -> None:
        if route.request.url.startswith((origin, "data:", "blob:")):
            route.continue_()
        else:
            chat.elsewhere.append(route.request.url)
            route.abort()

    def accept(dialog: "Dialog") -> None:
        chat.dialogs.append(dialog.message)
        dialog.accept()

    context.route("**/*", pass_on)
    page.on("pageerror", lambda error: chat.errors.append(str(error)))
    page.on("dialog", accept)
    page.goto(origin)
    page.locator("#language").wait_for()
    return chat
