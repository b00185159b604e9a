import pytest

from gateway_hf.tools.forms import GENERIC
from gateway_hf.tools.probe import ToolFacts, try_tools
from tests.support.tiny_models import CHAT_TEMPLATE, make_tokenizer
from tests.support.tool_templates import TEMPLATES


def tried(template):
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.chat_template = template
    return try_tools(tokenizer, template)


@pytest.mark.parametrize("name", TEMPLATES)
def test_how_a_template_takes_tools_is_found(name):
    facts = tried(TEMPLATES[name])
    assert (facts.form.name, facts.as_text, facts.in_system) == (name, name.startswith("deepseek"), name == "phi")
    assert facts.in_content == (name in ("granite", "phi"))


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        TEMPLATES["qwen-xml"].replace("m.tool_calls", "m.nothing"),
        TEMPLATES["hermes"].replace("{{ m.content }}", ""),
        TEMPLATES["hermes"].replace("if tools", "if nothing"),
        "{{ raise_exception('no') }}{{ tools }}<tool_call>",
        "{% if %}{{ tools }}<tool_call>",
    ],
    ids=["no tools", "no calls", "no results", "no descriptions", "refuses", "broken"],
)
def test_a_template_that_leaves_out_a_part_gets_an_instruction(template):
    assert tried(template) == ToolFacts()
    assert tried(template).form is GENERIC


def test_calls_that_a_template_does_not_show_are_the_text_that_the_model_wrote():
    facts = tried(TEMPLATES["hermes"].replace("m.tool_calls", "m.nothing"))
    assert (facts.form.name, facts.in_content) == ("hermes", True)


def test_arguments_that_are_written_as_python_are_given_as_text():
    template = TEMPLATES["hermes"].replace("c.function.arguments | tojson", "c.function.arguments")
    assert tried(template).as_text
