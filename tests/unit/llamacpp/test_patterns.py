"""A regex becomes a rule of a grammar, or is refused by name: it is never taken for another one."""

import pytest

from gateway.engine import InvalidRequest
from gateway_llamacpp.patterns import to_rule


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("", '""'),
        ("ab", '"a" "b"'),
        ("^a|b$", '"a" | "b"'),
        (r"\Aa\z", '"a"'),
        ("(a|)b", '("a" | "") "b"'),
        ("(?:a)(?P<name>b)(?<other>c)", '("a") ("b") ("c")'),
        ("a*b+c?", '"a"* "b"+ "c"?'),
        ("a*?b+?c??d{2}?", '"a"* "b"+ "c"? "d"{2,2}'),
        ("a{2}b{2,}c{0,3}d{0,}", '"a"{2,2} "b"{2,} "c"{0,3} "d"{0,}'),
        ("[0-9]{2}", "[0-9]{2,2}"),
        (r"\d\w\s", r"[0-9] [0-9A-Z_a-z] [\x09-\x0d\x20]"),
        (r"[\d.-]", r"[0-9\U0000002e\U0000002d]"),
        ("[^a-c]", "[^a-c]"),
        (r"[\]\-^]", r"[\U0000005d\U0000002d\U0000005e]"),
        (".", r"[^\x0a]"),
        (r"\.\"\\", r'"\U0000002e" "\U00000022" "\U0000005c"'),
        ("ä🙂", r'"\U000000e4" "\U0001f642"'),
        (r"\x41\u00e4\u{1f642}\n", r'"A" "\U000000e4" "\U0001f642" "\U0000000a"'),
        ("]}", r'"\U0000005d" "\U0000007d"'),
    ],
)
def test_a_pattern_is_the_rule_of_the_same_texts(pattern, rule):
    assert to_rule(pattern) == rule


@pytest.mark.parametrize("pattern", [r"\S", r"[^\s]"])
def test_what_is_no_blank_is_none_in_any_script(pattern):
    assert to_rule(pattern).startswith("[^")
    assert r"\u2028\u2029" in to_rule(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(", ")", "a)", "(a", "[a", "[]", "[^]", "*", "a**", "a*+", "a++", "{2}", "a{x}", "a{3,2}", "a{0}", "a{9999}",
        "(?=a)", "(?!a)", "(?<=a)", "(?i)a", "(?#x)", r"(a)\1", r"\b", r"\D", r"\W", r"[\D]", r"[^\d]", r"\p{L}",
        r"\ud800",
        r"\u{110000}", "\\", "[z-a]", "[a[b]]", "[a&&b]", "[[:alpha:]]", "a^b", "a$b", "(^a)", "(a$)",
        "(" * 60 + ")" * 60, "a" * 10_001,
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused_by_name(pattern):
    with pytest.raises(InvalidRequest) as refusal:
        to_rule(pattern)
    assert refusal.value.param == "regex"
    assert len(refusal.value.message) < 200
