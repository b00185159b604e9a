"""Constraints that are made to cost much; most are within the limits of the gateway, so an engine has to bound them."""

from collections.abc import Callable


def _levels(keyword: str, count: int, inner: dict) -> dict:
    schema = inner
    for _ in range(count):
        schema = {keyword: [schema, {"type": "integer"}]}
    return schema


def _doubling(levels: int, number: int) -> dict:
    """Refer twice to each level from the one above: there are two to the power of `levels` ways down."""
    parts: dict = {"d0": {"type": "string", "const": f"end {number}"}}
    for at in range(levels):
        inner = {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{at}"}}}
        parts[f"d{at + 1}"] = {"oneOf": [inner, {**inner, "required": ["a"]}]}
    return {"$ref": f"#/$defs/d{levels}", "$defs": parts}


# Each is written with a number, which makes another constraint of it that costs the same: no cache knows it.
_MADE: dict[str, Callable[[int], dict]] = {
    "[ab]*a[ab]{13}": lambda n: {"regex": f"[ab]*a[ab]{{13}}{n}"},
    "[ab]*a[ab]{30}": lambda n: {"regex": f"[ab]*a[ab]{{30}}{n}"},
    "(a+)+$": lambda n: {"regex": f"(a+)+{n}"},
    "a{1,100000}": lambda n: {"regex": f"a{{1,100000}}{n}"},
    "repeated repetitions": lambda n: {"regex": f"{n}a" + "{1,2}" * 200},
    "a long regex": lambda n: {"regex": f"{n}" + "(a|b|[c-z]{1,9})?" * 3_000},
    "foo**": lambda n: {"regex": f"foo{n}**"},
    "a property bomb": lambda n: {
        "guided_json": {"properties": {f"p{n}-{at}": {"pattern": "[ab]*a[ab]{20}"} for at in range(200)}}
    },
    "alternatives": lambda n: {
        "guided_json": {"oneOf": [{"properties": {f"p{n}-{at}": {"type": "string"}}} for at in range(250)]}
    },
    "deep oneOf": lambda n: {"guided_json": _levels("oneOf", 14, {"const": f"a{n}"})},
    "deep anyOf": lambda n: {"guided_json": _levels("anyOf", 14, {"const": f"a{n}"})},
    "doubling": lambda n: {"guided_json": _doubling(14, n)},
    "its own reference": lambda n: {"guided_json": {"$ref": "#", "title": f"{n}"}},
    "a remote reference": lambda n: {"guided_json": {"$ref": f"http://169.254.169.254/{n}"}},
    "a recursive list": lambda n: {"guided_json": {"type": "array", "items": {"$ref": "#"}, "minItems": 2 + n}},
    "a recursive tree": lambda n: {
        "guided_json": {"type": "object", "properties": {f"p{n}-{at}": {"$ref": "#"} for at in range(200)}}
    },
    "a billion": lambda n: {"guided_json": {"type": "string", "minLength": 10**9 + n}},
    "many letters": lambda n: {"guided_json": {"type": "string", "maxLength": 20_000 + n}},
    "many items": lambda n: {
        "guided_json": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2_000 + n, "maxItems": 4_000 + n}
    },
    "1,000 values": lambda n: {"guided_json": {"enum": ["x" * 40 + f"{n}-{at}" for at in range(1_000)]}},
    "10,000 values": lambda n: {"guided_json": {"enum": [f"{n}-{at}" for at in range(10_000)]}},
    "1,000 choices": lambda n: {"guided_choice": ["x" * 40 + f"{n}-{at}" for at in range(1_000)]},
    "left recursion": lambda n: {"grammar": f'root ::= root "a{n}" | "a"'},
    "ambiguous": lambda n: {"grammar": f'root ::= root root | "a{n}"'},
    "ambiguous without an end": lambda n: {"grammar": f'root ::= s\ns ::= s s s | "a" | "b{n}" | s s'},
    "nothing": lambda n: {"grammar": f"r{n} ::= r{n}\nroot ::= r{n}"},
    "unknown": lambda n: {"grammar": f"root ::= nowhere{n}"},
    "alternatives without end": lambda n: {
        "guided_grammar": f'start: "{n}" | ' + " | ".join(f'"a{at}"' for at in range(5_000))
    },
    "rules without end": lambda n: {
        "guided_grammar": "start: r0\n" + "".join(f"r{at}: r{at + 1} r{at + 1}\n" for at in range(60)) + f'r60: "{n}"\n'
    },
    "no grammar": lambda n: {"guided_grammar": "\0" * (1 + n)},
}

NAMES = tuple(_MADE)


def bomb(name: str, number: int = 0) -> dict:
    """Write the one field of a request that asks for a hostile constraint."""
    return _MADE[name](number)


def is_bounded(status: int, answer: dict, word: str) -> bool:
    """Hold an answer to a hostile constraint against the two that there may be: one that keeps to it, or a refusal."""
    if status == 200:
        return True
    error = answer["error"]
    # What can be compiled and then not be followed is refused while it is drawn, where the word is not known.
    named = error["param"] is None or error["param"].startswith(word)
    return status == 400 and named and len(error["message"]) < 1_000
