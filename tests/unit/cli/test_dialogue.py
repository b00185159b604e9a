"""The commands of a chat."""

import json

import pytest

from gateway.cli.client import GatewaySaysNo
from gateway.cli.dialogue import ChatCommands, Dialogue, Unsettable, unescaped


def find(name):
    if name == "nope":
        raise GatewaySaysNo("there is no model 'nope'")


@pytest.fixture
def chat():
    """A dialogue of one turn, and what carries out its commands."""
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "**ho**"}]
    dialogue = Dialogue(said, {"temperature": 0.5})
    commands = ChatCommands(find)
    return dialogue, lambda line: commands.obey(dialogue, line)


@pytest.mark.parametrize("line", ["hello", "/usr/bin/env is what?", "1/2", "//help", "/ what", "/Set x"])
def test_a_message_is_no_command(chat, line):
    assert chat[1](line) is None


def test_a_second_slash_begins_a_message_with_one():
    assert (unescaped("//help me"), unescaped("a//b")) == ("/help me", "a//b")


def test_help_names_every_command_with_what_follows_it(chat):
    shown = chat[1]("/help")
    for usage in ("/system [TEXT|-]", "/set [NAME [VALUE]]", "/save FILE", "/reset", "/model [NAME]", "/exit"):
        assert usage in shown


def test_an_unknown_command_is_refused_with_the_way_to_say_it(chat):
    with pytest.raises(Unsettable, match=r"no command /nope; .* //nope"):
        chat[1]("/nope")


def test_a_parameter_is_set_shown_and_unset(chat):
    dialogue, do = chat
    assert do("/set temperature 0.2") == "temperature = 0.2"
    assert do('/set stop ["a", "b"]') == 'stop = ["a", "b"]'
    assert dialogue.asked == {"temperature": 0.2, "stop": ["a", "b"]}
    assert do("/set") == 'temperature = 0.2\nstop = ["a", "b"]'
    do("/set temperature")
    do("/set stop a word")
    assert dialogue.asked == {"stop": "a word"}


@pytest.mark.parametrize("name", ["messages", "stream", "model"])
def test_what_the_chat_fills_in_itself_is_refused_by_name(chat, name):
    dialogue, do = chat
    with pytest.raises(Unsettable, match=name):
        do(f"/set {name} 1")
    assert dialogue.asked == {"temperature": 0.5}


def test_the_system_message_comes_first_is_replaced_and_taken_away(chat):
    dialogue, do = chat
    assert do("/system") == "there is no system message"
    do("/system You are brief.")
    assert do("/system You are kind.") == "You are kind."
    assert [message["role"] for message in dialogue.messages] == ["system", "user", "assistant"]
    do("/reset")
    assert dialogue.messages == [{"role": "system", "content": "You are kind."}]
    do("/system -")
    assert dialogue.messages == []


def test_a_chat_is_saved_as_markdown_or_json_and_overwrites_only_its_own_file(chat, tmp_path):
    dialogue, do = chat
    assert do(f"/save {tmp_path}/a.md") == f"saved as {tmp_path}/a.md"
    assert (tmp_path / "a.md").read_text().endswith("\n## user\n\nhi\n\n## assistant\n\n**ho**\n")
    do(f"/save {tmp_path}/a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"temperature": 0.5, "messages": dialogue.messages}
    dialogue.messages.append({"role": "user", "content": "more"})
    do(f"/save {tmp_path}/a.md")
    assert "more" in (tmp_path / "a.md").read_text()
    (tmp_path / "foreign").write_text("kept")
    for name in (tmp_path / "foreign", tmp_path / "no" / "folder", ""):
        with pytest.raises(Unsettable):
            do(f"/save {name}")
    assert (tmp_path / "foreign").read_text() == "kept"


def test_the_model_is_changed_for_the_next_turn(chat):
    dialogue, do = chat
    assert do("/model") == "the gateway's first"
    assert do("/model other") == "other"
    with pytest.raises(GatewaySaysNo, match="nope"):
        do("/model nope")
    assert dialogue.asked["model"] == "other"
