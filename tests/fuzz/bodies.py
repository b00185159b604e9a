"""Bodies and paths to draw for an operation of our document: any bytes, any JSON, its own fields with wrong values."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from msgspec import Struct

# They change which engines there are, which is no fault.
_LEFT_OUT = ("/load", "/unload")
_METHODS = ("get", "post", "delete", "put", "patch")
_LITTLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    _LITTLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_MODELS = st.sampled_from(["echo", "echo", "tiny", "tiny", "scripted", "nothing", ""])
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "tool", "x"]), "content": st.text() | ANYTHING}
    )
    | st.fixed_dictionaries({"role": st.just("user"), "content": st.text(min_size=1)}),
    max_size=3,
)
# Likely values, so that more than the first check of a body is met.
_LIKELY: Mapping[str, st.SearchStrategy[Any]] = {
    "model": _MODELS,
    "messages": _MESSAGES,
    "prompt": st.text() | st.lists(st.integers(-1, 300), max_size=8),
    "input": st.text() | st.lists(st.text(), max_size=3),
    "stream": st.booleans(),
    "max_tokens": st.integers(0, 20),
    "max_new_tokens": st.integers(0, 20),
    "max_output_tokens": st.integers(0, 20),
    "max_completion_tokens": st.integers(0, 20),
    "n": st.integers(0, 4),
    "tokens": st.lists(st.integers(-1, 2**33), max_size=8),
    "query": st.text(),
    "documents": st.lists(st.text(), max_size=3),
}
_TYPES = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "text/plain", "", "multipart/form-data"]
)
# The model, and what one of a body's fields says to it.
_NEEDED = ("model", "messages", "prompt", "input")
_MOST_OTHERS = 3
_FORM = "multipart/form-data; boundary=b"


class Operation(Struct, frozen=True):
    """One operation: its method, its path with names in braces, and the fields of its body."""

    method: str
    path: str
    fields: tuple[str, ...]
    has_form: bool = False

    def paths(self) -> st.SearchStrategy[str]:
        """Draw a path; what stands for a name is any text."""
        named = self.path.split("{")
        parts = [st.just(named[0])]
        for part in named[1:]:
            parts += [(st.text(max_size=30) | _MODELS).map(lambda text: quote(text, safe="") or "x")]
            parts += [st.just(part.partition("}")[2])]
        return st.tuples(*parts).map("".join)

    def bodies(self) -> st.SearchStrategy[tuple[str, bytes]]:
        """Draw a content type and a body."""
        if not self.fields and not self.has_form:
            return st.just(("", b""))
        fields = {name: _LIKELY.get(name, ANYTHING) | ANYTHING for name in self.fields}
        own = self._names().flatmap(
            lambda names: st.fixed_dictionaries(
                {name: _LIKELY[name] if name in _NEEDED else fields[name] for name in names}
            )
        )
        objects = (own | ANYTHING).map(lambda value: json.dumps(value).encode())
        # A piece of an object that is right, with anything behind it.
        torn = st.tuples(objects, st.integers(0, 60), st.binary(max_size=20)).map(
            lambda drawn: drawn[0][: drawn[1]] + drawn[2]
        )
        plain = st.tuples(st.just("application/json"), objects | torn | st.binary(max_size=300))
        typed = st.tuples(_TYPES, objects | st.binary(max_size=100))
        return plain | typed | self._forms() if self.has_form else plain | typed

    def _names(self) -> st.SearchStrategy[list[str]]:
        """Draw the fields of a body: one of many is always wrong, so only a few let some bodies be right."""
        one = [name for name in _NEEDED[1:] if name in self.fields]
        others = sorted({*self.fields} - {*_NEEDED})
        contents = st.sampled_from([[name] for name in one] or [[]])
        some = st.lists(st.sampled_from(others), max_size=_MOST_OTHERS, unique=True) if others else st.just([])
        model = [name for name in _NEEDED[:1] if name in self.fields]
        return st.tuples(contents, some).map(lambda drawn: [*model, *drawn[0], *drawn[1]])

    def _forms(self) -> st.SearchStrategy[tuple[str, bytes]]:
        part = st.tuples(st.sampled_from(["file", "purpose", "", 'x"y']), st.binary(max_size=60)).map(
            lambda drawn: (
                b'--b\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n'
                % (drawn[0].encode(), drawn[1])
            )
        )
        ending = st.sampled_from([b"--b--\r\n", b"", b"--b", b"\r\n"])
        whole = st.tuples(st.lists(part, max_size=4).map(b"".join), ending).map(b"".join)
        return st.tuples(st.just(_FORM), whole | st.binary(max_size=200))


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """List the operations of a document."""
    for path, methods in document["paths"].items():
        if path.endswith(_LEFT_OUT):
            continue
        for method, operation in methods.items():
            if method in _METHODS:
                content = operation.get("requestBody", {}).get("content", {})
                schema = content.get("application/json", {}).get("schema", {})
                fields = tuple(_fields(schema, document["components"]["schemas"]))
                yield Operation(method.upper(), path, fields, "multipart/form-data" in content)


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield from _fields(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    yield from schema.get("properties", {})
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *schema.get("oneOf", ())):
        yield from _fields(part, schemas)
