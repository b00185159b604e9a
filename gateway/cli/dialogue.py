"""What a chat has said and asked for, and the commands that change it: `/set temperature 0.2`."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

# A word of letters: a path or a fraction at the beginning of a message is no command.
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
# What the chat itself fills in.
_OWN = frozenset({"messages", "prompt", "stream", "model"})
_NONE = "-"


class Dialogue(Struct):
    """The messages of a chat and the parameters of its requests; `saved` are the files that it was saved to."""

    messages: list[dict[str, str]]
    asked: dict[str, object]
    saved: set[Path] = field(default_factory=set)

    @property
    def system(self) -> str:
        """The system message; empty where there is none."""
        return self.messages[0]["content"] if self.messages and self.messages[0]["role"] == "system" else ""

    @system.setter
    def system(self, text: str) -> None:
        said = [message for message in self.messages if message["role"] != "system"]
        self.messages = [{"role": "system", "content": text}, *said] if text else said


class ChatCommand(NamedTuple):
    """A command: what may follow its name, what it does, and what carries it out and returns a text to show."""

    usage: str
    what: str
    act: Callable[[Dialogue, str], str]


class Unsettable(Exception):
    """A command cannot be carried out; the message says why."""


class ChatCommands:
    """Carries out what a line of a chat orders; `find_model` raises `GatewaySaysNo` where there is no such model."""

    def __init__(self, find_model: Callable[[str], object]) -> None:
        self._find_model = find_model
        self.known: Mapping[str, ChatCommand] = {
            "help": ChatCommand("", "show the commands", self._help),
            "system": ChatCommand(f"[TEXT|{_NONE}]", "show, replace or remove the system message", _system),
            "set": ChatCommand("[NAME [VALUE]]", "show, set or unset a parameter, as temperature 0.2", _set),
            "model": ChatCommand("[NAME]", "show or change the model", self._model),
            "save": ChatCommand("FILE", "write the conversation, as Markdown or, into FILE.json, as JSON", _save),
            "reset": ChatCommand("", "forget what was said, but for the system message", _reset),
            "exit": ChatCommand("", "leave, as Ctrl-D does", lambda _, __: ""),
        }

    def obey(self, dialogue: Dialogue, said: str) -> str | None:
        """Carry out a command and return what to show; `None` for a message. Raise `Unsettable`, or as a client."""
        found = _COMMAND.fullmatch(said)
        if found is None:
            return None
        if (command := self.known.get(found[1])) is None:
            raise Unsettable(f"there is no command /{found[1]}; /help lists them, and //{found[1]} says it")
        return command.act(dialogue, (found[2] or "").strip())

    def _help(self, dialogue: Dialogue, _: str) -> str:
        del dialogue
        rows = [(f"/{name} {command.usage}".rstrip(), command.what) for name, command in self.known.items()]
        width = max(len(usage) for usage, _ in rows)
        return "\n".join(
            [
                *(f"{usage:{width}}  {what}" for usage, what in rows),
                "Enter sends, Alt-Enter begins a new line, Ctrl-C stops an answer; // begins a message with a slash.",
            ]
        )

    def _model(self, dialogue: Dialogue, name: str) -> str:
        if name:
            self._find_model(name)
            dialogue.asked["model"] = name
        return str(dialogue.asked.get("model", "the gateway's first"))


def unescaped(said: str) -> str:
    """Take off the slash that says that another one begins a message."""
    return said.removeprefix("/") if said.startswith("//") else said


def _system(dialogue: Dialogue, text: str) -> str:
    if text:
        dialogue.system = "" if text == _NONE else text
    return dialogue.system or "there is no system message"


def _set(dialogue: Dialogue, words: str) -> str:
    name, _, text = words.partition(" ")
    if not name:
        return "\n".join(f"{key} = {_written(value)}" for key, value in dialogue.asked.items() if key != "model")
    if name in _OWN:
        raise Unsettable(f"{name} is the chat's own; /help lists what changes it")
    if not text.strip():
        dialogue.asked.pop(name, None)
        return f"{name} is as the gateway has it"
    dialogue.asked[name] = _read(text.strip())
    return f"{name} = {_written(dialogue.asked[name])}"


def _reset(dialogue: Dialogue, _: str) -> str:
    dialogue.messages = [message for message in dialogue.messages if message["role"] == "system"]
    return "what was said is forgotten"


def _save(dialogue: Dialogue, name: str) -> str:
    if not name:
        raise Unsettable("/save needs the name of a file")
    path = Path(name).expanduser()
    text = _as_json(dialogue) if path.suffix == ".json" else _as_markdown(dialogue)
    try:
        with path.open("w" if path in dialogue.saved else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Unsettable(f"{path} exists, and is left as it is; give another name") from error
    except (OSError, ValueError) as error:
        raise Unsettable(f"{path}: {error}") from error
    dialogue.saved.add(path)
    return f"saved as {path}"


def _as_json(dialogue: Dialogue) -> str:
    return json.dumps(dialogue.asked | {"messages": dialogue.messages}, ensure_ascii=False, indent=2) + "\n"


def _as_markdown(dialogue: Dialogue) -> str:
    asked = [f"- {name}: {_written(value)}\n" for name, value in dialogue.asked.items()]
    said = [f"\n## {message['role']}\n\n{message['content']}\n" for message in dialogue.messages]
    return "".join(["# Chat\n\n", *asked, *said])


def _read(text: str) -> object:
    """Read a value as JSON, and anything else as a text."""
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
