"""The line editor of the chat: arrow keys, a history of the session, pasted text as it is."""

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

_PROMPT = "> "


class Editor:
    """Reads from a terminal. Enter sends, Alt-Enter begins a new line, and a pasted text is one message.

    The history is kept in memory only: no message is written to a file.
    """

    def __init__(self) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
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
