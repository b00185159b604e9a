"""The line editor of the chat: arrow keys, a history of what was typed, pasted text as it is."""

from collections.abc import Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

_PROMPT = "> "


class Editor:
    """Reads from a terminal. Enter sends, Alt-Enter begins a new line, and a pasted text is one message.

    Tab completes the `commands`. The history is kept in memory only, unless a file is named for it: no message is
    written to a file unasked.
    """

    def __init__(self, commands: Sequence[str], history: str | None) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=_history(history),
            completer=WordCompleter(commands, sentence=True),
            complete_while_typing=False,
            key_bindings=_bindings(),
            multiline=True,
            prompt_continuation=" " * len(_PROMPT),
            output=create_output(always_prefer_tty=True),
        )
        self._interrupted = False

    def read(self) -> str | None:
        """Return the next message; `None` after Ctrl-D, or after Ctrl-C twice on an empty line."""
        while True:
            try:
                said = self._session.prompt(_PROMPT)
            except EOFError:
                return None
            except KeyboardInterrupt:
                if self._interrupted:
                    return None
                self._interrupted = True
                print("(Ctrl-C again, Ctrl-D or /exit leaves)", flush=True)
                continue
            self._interrupted = False
            return said


def _history(name: str | None) -> History:
    """Keep the history in a file that only its owner may read, or in memory."""
    if name is None:
        return InMemoryHistory()
    path = Path(name).expanduser()
    path.touch(mode=0o600)
    path.chmod(0o600)  # of a file that was there, too
    return FileHistory(str(path))


def _bindings() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter")
    @bindings.add("c-j")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def begin_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-c")
    @bindings.add("<sigint>")
    def clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return bindings
