import resource
import threading
from typing import get_args

import pytest

from gateway.engine import EngineError, InvalidRequest
from gateway_hf.text.template import End, OutOfTime, TemplateFailed, render, time_limit, variables
from tests.support.tiny_models import make_tokenizer

HELLO = [{"role": "user", "content": "hello"}]


def rendered(template, messages=HELLO, seconds=20.0):
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.chat_template = template
    return render(tokenizer, messages, seconds=seconds)


def test_a_template_says_the_conversation_and_begins_the_answer():
    text = rendered("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}{{ add_generation_prompt }}")
    assert text == "user: helloTrue"


def test_what_a_template_refuses_is_the_callers_fault():
    with pytest.raises(InvalidRequest, match="no system here") as caught:
        rendered("{{ raise_exception('no\nsystem   here') }}")
    assert caught.value.param == "messages"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ messages[0].__class__.__mro__ }}",
        "{{ 'a' * 10**15 }}",
        "{% if %}",
        "{{ missing.attribute }}",
        "{{ messages.append(1) }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 'a' * 10**7 }}",
    ],
)
def test_a_hostile_or_broken_template_is_the_engines_fault_and_says_nothing_of_its_inside(template):
    with pytest.raises(EngineError) as caught:
        rendered(template)
    assert not isinstance(caught.value, InvalidRequest)
    assert caught.value.message.startswith("the model's chat template ")


def test_a_template_that_would_never_end_is_ended():
    with pytest.raises(EngineError, match=r"within 0\.2 seconds"):
        rendered("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", seconds=0.2)


def test_the_time_limit_strikes_in_its_own_thread_and_spares_the_rest():
    struck = []

    def spin():
        try:
            with time_limit(0.05):
                while True:
                    pass
        except OutOfTime:
            struck.append(threading.current_thread())

    thread = threading.Thread(target=spin)
    thread.start()
    thread.join(10)
    assert struck == [thread]


def test_what_ends_in_time_leaves_no_timer_behind():
    before = threading.active_count()
    with time_limit(60):
        pass
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)
    assert threading.active_count() <= before


def test_a_conversation_is_rendered_up_to_the_end_of_its_last_message():
    tokenizer = make_tokenizer(begins=False, chats=True)
    messages = [*HELLO, {"role": "assistant", "content": "Well, "}]
    whole, open_ended, closed = (render(tokenizer, messages, end=end, seconds=20.0) for end in get_args(End))
    assert open_ended.endswith("Well, ")
    assert closed.rstrip() == open_ended + "<|im_end|>"
    assert whole == closed + "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "constant",
    [
        "10**(10**8)",
        "'a' * 10**9",
        "'a'|center(10**9)",
        "(10**(10**8))|string",
        "[1] * 10**9",
        "1 if 10**(10**8) else 2",
    ],
)
def test_what_is_constant_in_a_template_is_not_computed_to_find_its_variables(constant):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert variables("{{ " + constant + " }}{% set a = " + constant + " %}{{ style }}", ()) == {"style"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18


def test_the_variables_of_a_template_are_those_that_nobody_sets_yet():
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.x %}{% break %}{% endif %}{% endfor %}"
        "{% set own = 1 %}{{ own }}{{ raise_exception }}{{ range(3) }}{{ tools }}{{ add_generation_prompt }}"
        "{%- generation %}{{ style }}{% endgeneration -%}{% if thinks is defined and thinks %}!{% endif %}"
    )
    assert variables(template, {"bos_token"}) == {"style", "thinks"}
    assert variables("{% if %}", ()) == frozenset()


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ 1 }}\n{{ 1 / 0 }}", "ZeroDivisionError"),
        ("\n{{ messages[0].missing.deeper }}", "UndefinedError"),
        ("\n{{ messages.append(1) }}", "SecurityError"),
        ("\n{{ {}[messages[0].content].deeper }}", "UndefinedError"),
        ("\n{{ {}[messages[0].content | title].deeper }}", "UndefinedError"),
        ("\n{{ {}[messages[0].content | upper].deeper }}", "UndefinedError"),
        ("\n{% include messages[0].content %}", "TypeError"),
    ],
)
def test_an_error_of_a_template_is_told_with_its_line_and_no_word_of_the_conversation(template, told):
    said = [{"role": "user", "content": "Canary is an object"}]
    with pytest.raises(TemplateFailed) as caught:
        rendered(template, said)
    assert caught.value.place == " in line 2"
    assert caught.value.kind == told
    assert caught.value.message == "the model's chat template failed"
