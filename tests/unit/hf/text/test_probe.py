"""A chat template is tried at load: what it reads, what it changes, and whether it works."""

import pytest

from gateway_hf.text import probe
from gateway_hf.text.probe import TemplateFacts, try_out
from tests.support.tiny_models import make_tokenizer

_ALL = frozenset({"user", "system", "assistant"})
_PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
_PARTS = "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}{% endfor %}"
_SELECTED = "{{ (messages[0].content | selectattr('type', 'equalto', 'text') | first).text }}"
_EITHER = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
)
# As vision models' templates do: the system's message is a text, all others have parts.
_MIXED = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ '<s>' + m.content }}"
    "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
)
_PRINTED = _MIXED.replace("'<s>' + m.content", "m.content")
_LOUD_SYSTEM = _PLAIN.replace("m.content", "m.content | upper if m.role == 'system' else m.content")
_NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + _PARTS
_SYSTEM_FIRST = "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}" + _PARTS


def _tried(template, arguments=frozenset()):
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.chat_template = template
    return try_out(tokenizer, arguments)


@pytest.mark.parametrize(
    ("template", "facts"),
    [
        (_PLAIN, TemplateFacts()),
        (_EITHER, TemplateFacts()),
        (_PARTS, TemplateFacts(_ALL)),
        (_SELECTED, TemplateFacts(_ALL)),
        (_MIXED, TemplateFacts(_ALL - {"system"})),
        (_PRINTED, TemplateFacts(_ALL - {"system"})),
        (_NO_SYSTEM, TemplateFacts(_ALL, reads_system=False)),
        (_SYSTEM_FIRST, TemplateFacts(_ALL)),
        ("{{ messages[0].content | upper }}", TemplateFacts(keeps_text=False)),
        ("{{ messages[0].content[:30] }}", TemplateFacts(keeps_text=False)),
        (_LOUD_SYSTEM, TemplateFacts(keeps_text=False)),
        ("{{ messages[0].content | trim | tojson }}", TemplateFacts()),
    ],
)
def test_what_a_template_does_with_texts_is_found_for_each_role(template, facts):
    assert _tried(template) == facts


def test_a_template_that_refuses_all_questions_says_nothing_of_others():
    assert _tried("{{ raise_exception('only with tools') }}") == TemplateFacts()


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages }}\n{% if %}", "wrong in line 2: Expected an expression"),
        ("{{ messages }}\n\n{{ messages | nofilter }}", "wrong in line 3: No filter named 'nofilter'"),
        ("\n{{ messages[0].missing.deeper }}", "fails at plain questions in line 2: 'dict object' has no attribute"),
        ("hello", "leaves out what a user says"),
        ("{{ messages[1].content.text }}", "leaves out what a user says"),
    ],
)
def test_a_template_that_is_no_use_means_no_chat_and_the_log_says_why(caplog, template, why):
    assert _tried(template) is None
    assert why in caplog.text
    assert caplog.text.count("the model has no chat") == 1


def test_a_template_that_may_lack_an_argument_is_not_given_up():
    assert _tried("{{ style.deeper.still }}{{ messages[0].content }}", {"style"}) == TemplateFacts(is_sound=False)


def test_a_template_that_does_not_end_is_tried_once_and_means_no_chat(monkeypatch, caplog):
    def render(tokenizer, messages, given, render=probe.render):
        rendered.append(messages)
        return render(tokenizer, messages, given, seconds=0.2)

    rendered = []
    monkeypatch.setattr(probe, "render", render)
    assert _tried("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}") is None
    assert len(rendered) == 1
    assert "did not end within 0.2 seconds of processor time; the model has no chat" in caplog.text


@pytest.mark.parametrize("arguments", [frozenset(), {"style"}])
def test_a_template_that_computes_too_much_means_no_chat_and_the_log_says_why(caplog, arguments):
    assert _tried("{{ messages[0].content }}\n{{ style }}{{ 10 ** (10 ** 8) }}", arguments) is None
    assert "fails at plain questions in line 2: a number of 400000000 bits" in caplog.text
    assert caplog.text.count("the model has no chat") == 1


def test_a_sound_template_leaves_no_line_in_the_log(caplog):
    for template in (_PLAIN, _PARTS, _SELECTED, _MIXED, _NO_SYSTEM):
        _tried(template)
    assert not caplog.records
