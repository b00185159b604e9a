"""Of several templates the one is taken that transformers takes; each is tried at load, with what it reads."""

import json

import pytest
from transformers import AutoTokenizer

from gateway.engine import Chat, Message, Text, Tool, ToolCall, ToolResult
from gateway_hf.text.named_templates import read_templates
from tests.support.tiny_models import CHAT_TEMPLATE, make_tokenizer
from tests.support.tool_templates import TEMPLATES
from tests.unit.hf.conftest import codec

TOOL = Tool("weather", "Says it.", {"type": "object", "properties": {}})
ASKED = Message("user", (Text("Is it sunny?"),))
CALLED = Message("assistant", (ToolCall("c1", "weather", '{"city": "Paris"}'),))
RETURNED = Message("tool", (ToolResult("c1", "Yes, it is."),))
PLAIN, WITH_TOOLS = Chat((ASKED,)), Chat((ASKED, CALLED, RETURNED), tools=(TOOL,))
# As vision models' templates do: every message has parts, results too.
# With something behind the tag: Jinja would take a newline there for the tag's own.
_LOOP = "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{{ '' }}"
IN_PARTS = TEMPLATES["hermes"].replace("{{ m.content }}", _LOOP)
RESULTS_IN_PARTS = TEMPLATES["hermes"].replace("<tool_response>\n{{ m.content }}", f"<tool_response>\n{_LOOP}")


def tokenizer(template):
    made = make_tokenizer(begins=False, chats=True)
    made.chat_template = template
    return made


def by_transformers(made, **given):
    turns = [{"role": "user", "content": "Is it sunny?"}]
    return made.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **given)


@pytest.mark.parametrize("written", ["a list in its configuration", "files"])
def test_templates_are_found_where_transformers_finds_them(tmp_path, written):
    folder = tmp_path / "tokenizer"
    named = {"default": CHAT_TEMPLATE, "tool_use": TEMPLATES["hermes"], "rag": "{{ nothing }}"}
    tokenizer(named).save_pretrained(folder, save_jinja_files=written == "files")
    if written == "files":
        assert (folder / "additional_chat_templates" / "tool_use.jinja").is_file()
    else:
        kept = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
        assert [each["name"] for each in kept] == list(named)
    read = AutoTokenizer.from_pretrained(folder)
    text = codec(read)
    assert text.tools.form.name == "hermes"
    assert text.render(PLAIN) == by_transformers(read)
    described = [
        {"type": "function", "function": {"name": "weather", "description": "Says it.", "parameters": TOOL.parameters}}
    ]
    assert text.render(Chat((ASKED,), tools=(TOOL,))) == by_transformers(read, tools=described)
    assert text.render(Chat((ASKED,), tools=(TOOL,), tool_choice="none")) == by_transformers(read)


@pytest.mark.parametrize("template", [IN_PARTS, RESULTS_IN_PARTS, TEMPLATES["hermes"]], ids=["all", "results", "none"])
def test_results_reach_a_template_as_it_reads_them(template):
    text = codec(tokenizer(template))
    assert text.tools.form.name == "hermes"
    assert text.render(WITH_TOOLS) == codec(tokenizer(TEMPLATES["hermes"])).render(WITH_TOOLS)
    assert "<tool_response>\nYes, it is.\n</tool_response>" in text.render(WITH_TOOLS)


def test_each_template_gets_the_messages_that_it_reads():
    both = codec(tokenizer({"default": CHAT_TEMPLATE, "tool_use": IN_PARTS}))
    assert both.render(PLAIN) == codec(tokenizer(CHAT_TEMPLATE)).render(PLAIN)
    assert both.render(WITH_TOOLS) == codec(tokenizer(TEMPLATES["hermes"])).render(WITH_TOOLS)
    other = codec(tokenizer({"default": IN_PARTS, "tool_use": TEMPLATES["hermes"]}))
    assert other.render(PLAIN) == codec(tokenizer(TEMPLATES["hermes"])).render(PLAIN)
    assert other.render(WITH_TOOLS) == both.render(WITH_TOOLS)


def test_each_template_has_its_own_variables():
    with_style = TEMPLATES["hermes"] + "{{ style }}"
    text = codec(tokenizer({"default": CHAT_TEMPLATE, "tool_use": with_style}))
    said = text.render(Chat((ASKED,), tools=(TOOL,), template_arguments={"style": "short"}))
    assert said.endswith("short")
    with pytest.raises(Exception, match="no variable 'style'"):
        text.render(Chat((ASKED,), template_arguments={"style": "short"}))


def test_a_wrong_template_for_tools_is_found_at_load_and_an_instruction_serves(caplog):
    wrong = "{{ tools }}<tool_call>\n{% if %}"
    text = codec(tokenizer({"default": CHAT_TEMPLATE, "tool_use": wrong}))
    assert "the chat template is wrong in line 2: Expected an expression" in caplog.text
    assert "tools are told by an instruction" in caplog.text
    assert text.has_chat
    assert text.tools.is_generic
    assert "weather" in text.render(Chat((ASKED,), tools=(TOOL,)))


@pytest.mark.parametrize("template", [{"rag": CHAT_TEMPLATE}, {"default": 5}, 7])
def test_without_a_template_that_can_be_a_default_there_is_no_chat_and_the_log_says_so(caplog, template):
    assert read_templates(tokenizer(template)) is None
    assert "of the chat templates none is the default, or it is no text; the model has no chat" in caplog.text


def test_a_model_without_templates_leaves_no_line(caplog):
    assert read_templates(make_tokenizer(begins=False, chats=False)) is None
    assert not caplog.records
