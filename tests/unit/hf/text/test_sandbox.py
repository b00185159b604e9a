"""A template computes no more than a conversation can need; what it may compute, it computes as ever."""

import threading

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway_hf.text.sandbox import BeyondBoundsError, BoundedEnvironment, bounds
from gateway_hf.text.template import OutOfTime, TemplateFailed, render
from tests.support.tiny_models import make_tokenizer

_HELLO = [{"role": "user", "content": "hello"}]
_DOUBLE = (
    "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x | length }}"
)
_TEXT = "{% set a = 'a' * 10**5 %}"


def _doubled(start, step):
    return _DOUBLE.replace("START", start).replace("STEP", step)


def _rendered(template, **arguments):
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.chat_template = template
    return render(tokenizer, _HELLO, arguments)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 10**(10**8) }}",
        "{% set x = 10**(10**8) %}",
        _doubled("3", "ns.x * ns.x"),
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * [1] }}",
        _doubled("'ab'", "ns.x + ns.x"),
        _doubled("['ab']", "ns.x + ns.x"),
        _doubled("'ab'", "ns.x ~ ns.x"),
        _doubled("['ab']", "[ns.x, ns.x]"),
        _doubled("()", "(ns.x, ns.x)"),
        _doubled("{}", "{'a': ns.x, 'b': ns.x}"),
        "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = ns.l + ['a' * 10**6 ~ i] %}{% endfor %}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ '{:{a}}'.format_map({'a': 10**9}) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.zfill(10**9) }}",
        "{{ '\\t'.expandtabs(10**9) }}",
        "{{ 'aaaa'.translate({97: 'a' * 10**6}) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a\\nb' | indent(10**9) }}",
        "{{ {'a': 1} | tojson(indent=10**9) }}",
        "{{ 10 | round(10**9) }}",
        "{{ 10 | round(-10**9) }}",
        "{{ [1] | batch(10**9, 'a') | list }}",
        _TEXT + "{{ a.replace('a', a) }}",
        _TEXT + "{{ a | replace('a', a) }}",
        _TEXT + "{{ ([a] * 9) | map('string') | list | tojson | replace('a', a) }}",
        _TEXT + "{{ ','.join([a, a, a, a, a, a, a, a, a, a, a]) }}",
        _TEXT + "{{ [a, a, a, a, a, a, a, a, a, a, a] | join(',') }}",
        _TEXT + "{% set d = {'a': a} %}{{ [d, d, d, d, d, d, d, d, d, d, d] | join(attribute='a') }}",
        _TEXT + "{% for i in range(99999) %}{{ a }}{% endfor %}",
        _TEXT + "{% macro m() %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endmacro %}{% set x = m() %}",
        _TEXT + "{% set x %}{% for i in range(99999) %}{{ a }}{% endfor %}{% endset %}",
        _TEXT + "{{ range(99999) | map(attribute='nope', default=a) | list }}",
        _TEXT + "{{ dict.fromkeys(range(99999), a) }}",
        _TEXT + "{{ strftime_now(a * 2) }}",
        "{{ ([[1] * 1000] * 1000) | sum(start=[]) | length }}",
    ],
)
def test_what_no_conversation_needs_is_refused_before_it_is_made(template):
    with pytest.raises(TemplateFailed) as refused:
        _rendered(template)
    assert isinstance(refused.value.cause, BeyondBoundsError | OutOfTime)
    assert refused.value.is_excessive


_ORDINARY = [
    "{{ 2**10 }} {{ 2**-1 }} {{ 7 % 3 }} {{ 3 * 4 }} {{ 'ab' * 3 }} {{ [1] * 3 }} {{ 1 + 2.5 }}",
    "{{ 'a' ~ 1 ~ none ~ [1, 'b'] }} {{ [1, 2] + [3] }} {{ (1, 2) }} {{ {'a': (1,)} }}",
    "{% for a, b in {'x': 1}.items() %}{{ a }}{{ b }}{% endfor %}",
    "{{ '%s is %05.1f' % ('a', 2) }} {{ '%s' | format('b') }} {{ '{:>5}|{a}'.format(1, a='b') }}",
    "{{ ['a', 1] | join(', ') }} {{ ', '.join(['a', 'b']) }} {{ messages | map(attribute='role') | join }}",
    "{{ messages | join('-', attribute='content') }} {{ [1, 2] | sum }} {{ [{'a': 1}] | sum(attribute='a') }}",
    "{{ [{'a': [1]}] | sum(attribute='a', start=[2]) }} {{ [1, 2, 3] | batch(2, 0) | list }} {{ [3, 1] | sort }}",
    "{{ 'aXb' | replace('X', '-') }}{{ 'aXbX'.replace('X', '-', 1) }} {{ 'a' | center(5) }}{{ 'a\tb'.expandtabs(4) }}",
    "{{ none | default(10**9) }} {{ 12345678901 | string }} {{ 1.256 | round(1) }} {{ messages | tojson(indent=2) }}",
    "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') }}{% set y %}b{{ m('c') }}{% endset %}{{ y }}{{ missing }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(5) %}{% set ns.a = ns.a + [i] %}{% endfor %}{{ ns.a }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ 'b' in ['a'] }} {{ 'x y'.split() }}",
    "{{ '<a>' | escape }} {{ '%d%%' % 5 }} {{ dict(a=1) }} {{ 'ab' | first }} {{ messages[0].content | upper | trim }}",
]


@pytest.mark.parametrize("template", _ORDINARY)
def test_what_a_template_may_compute_is_as_without_bounds(template):
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    bounded = BoundedEnvironment(trim_blocks=True, lstrip_blocks=True)
    expected = plain.from_string(template).render(messages=_HELLO)
    with bounds(10_000):
        assert bounded.from_string(template).render(messages=_HELLO) == expected
    assert bounded.from_string(template).render(messages=_HELLO) == expected


def test_bounds_are_those_of_one_thread_and_end():
    bounded, seen = BoundedEnvironment(), []
    template = bounded.from_string("{{ 'ab' * n }}")
    with bounds(100):
        thread = threading.Thread(target=lambda: seen.append(template.render(n=100)))
        thread.start()
        thread.join()
        with pytest.raises(BeyondBoundsError):
            template.render(n=100)
    assert seen == [template.render(n=100)] == ["ab" * 100]


def test_a_long_conversation_may_be_written_piece_by_piece():
    template = BoundedEnvironment().from_string(
        "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + m %}{% endfor %}{{ ns.t }}"
    )
    with bounds(1 << 20):
        assert len(template.render(messages=["a" * 500] * 1000)) == 500_000
