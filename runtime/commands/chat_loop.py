"""The loop of a chat: reads one text after the other, and does or asks what it says."""

from runtime.commands.chat_commands import run_command
from runtime.commands.chat_session import Chat
from runtime.commands.typed_lines import Lines, read_typed
from runtime.console import note
from runtime.errors import SessionError, UserError

__all__ = ["converse"]


def converse(chat: Chat, lines: Lines) -> None:
    """Goes on until the end of input or a command that leaves; mistakes are told.

    Raises:
        SessionError: the backend failed, or the model gave unusable numbers.
        KeyboardInterrupt: Ctrl-C was pressed where that ends the program.
    """
    note("/help lists the commands, /exit leaves.")
    while True:
        try:
            _take(chat, lines)
        except EOFError:
            return
        except SessionError:
            raise
        except UserError as error:
            note(f"error: {error}")
        except KeyboardInterrupt:
            if not lines.interrupted():
                raise


def _take(chat: Chat, lines: Lines) -> None:
    typed = read_typed(lines)
    if not typed.text.strip():
        return
    lines.remember(typed)
    if typed.quoted or not run_command(chat, typed.text):
        chat.ask(typed.text)
