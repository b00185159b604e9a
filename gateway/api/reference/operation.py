"""How the documentation describes a route whose body and answers Litestar does not see."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from msgspec import Struct

from gateway.api.http.sse import DONE

# The headers that the answer of a generation may have.
HEADERS = {
    name: Reference(f"#/components/headers/{name}")
    for name in (
        "x-cache",
        "x-engine",
        "x-failed-choices",
        "x-fallback",
        "x-finish-detail",
        "x-ignored-params",
        "x-stored",
        "x-structured",
    )
}


class BodyDoc(Struct, frozen=True):
    """A body, and examples of it."""

    kind: type[Struct]
    examples: Mapping[str, object]


class ReplyDoc(Struct, frozen=True):
    """A whole answer; one whose example is a tuple is a list."""

    kind: type[Struct]
    example: Struct | tuple[Struct, ...]


class StreamDoc(Struct, frozen=True):
    """A stream: the kinds of its frames, their description, and an example as it goes over the wire."""

    kinds: Iterable[type[Struct]]
    description: str
    example: str


def generation(body: BodyDoc, reply: ReplyDoc, stream: StreamDoc) -> type[Operation]:
    """Describe a route that generates: its body, and its answer whole and streamed."""
    return _described(body, {"200": _answer(reply, stream)})


def question(body: BodyDoc, reply: ReplyDoc, description: str) -> type[Operation]:
    """Describe a route with one kind of answer."""
    return _described(body, {"200": _only(reply, description)})


def lookup(reply: ReplyDoc, description: str) -> type[Operation]:
    """Describe a route without a body that has one kind of answer, which Litestar does not see."""
    return _described(None, {"200": _only(reply, description)})


def _only(reply: ReplyDoc, description: str) -> OpenAPIResponse:
    one = _reference(reply.kind)
    schema = Schema(type=OpenAPIType.ARRAY, items=one) if isinstance(reply.example, tuple) else one
    media = OpenAPIMediaType(schema=schema, examples={"whole": Example(summary="whole", value=reply.example)})
    return OpenAPIResponse(description=description, content={"application/json": media})


def upload(form: Schema, reply: ReplyDoc, description: str) -> type[Operation]:
    """Describe a route that takes a form with a file."""
    content = {"multipart/form-data": OpenAPIMediaType(schema=form)}
    return _described(RequestBody(required=True, content=content), {"200": _only(reply, description)})


def download(description: str) -> type[Operation]:
    """Describe a route that answers with bytes."""
    media = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
    content = {"application/octet-stream": media}
    return _described(None, {"200": OpenAPIResponse(description=description, content=content)})


def reading(reply: ReplyDoc, stream: StreamDoc) -> type[Operation]:
    """Describe a route without a body that answers as one that generates does."""
    return _described(None, {"200": _answer(reply, stream)})


def _described(
    body: BodyDoc | RequestBody | None, responses: Mapping[str, OpenAPIResponse | Reference]
) -> type[Operation]:
    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            if isinstance(body, BodyDoc):
                self.request_body = RequestBody(required=True, content={"application/json": _body(body)})
            elif body is not None:
                self.request_body = body
            self.responses = {**(self.responses or {}), **responses}

    return Described


def to_frames(frames: Iterable[Struct]) -> str:
    """Write an example of a plain stream: each frame one line of JSON, then `[DONE]`."""
    return b"".join([*(b"data: " + msgspec.json.encode(frame) + b"\n\n" for frame in frames), DONE]).decode()


def _body(body: BodyDoc) -> OpenAPIMediaType:
    examples = {name: Example(summary=name, value=value) for name, value in body.examples.items()}
    return OpenAPIMediaType(schema=_reference(body.kind), examples=dict(examples))


def _answer(reply: ReplyDoc, stream: StreamDoc) -> OpenAPIResponse:
    whole, streamed = Example(summary="whole", value=reply.example), Example(summary="stream", value=stream.example)
    return OpenAPIResponse(
        description="The answer: whole, or as a stream of Server-Sent Events.",
        headers=dict(HEADERS),
        content={
            "application/json": OpenAPIMediaType(schema=_reference(reply.kind), examples={"whole": whole}),
            "text/event-stream": OpenAPIMediaType(schema=_frames(stream), examples={"stream": streamed}),
        },
    )


def _frames(stream: StreamDoc) -> Schema:
    return Schema(
        title="Frames",
        type=OpenAPIType.STRING,
        description=stream.description,
        content_media_type="text/event-stream",
        content_schema=Schema(any_of=[_reference(kind) for kind in stream.kinds]),
    )


def _reference(kind: type[Struct]) -> Reference:
    return Reference(f"#/components/schemas/{kind.__name__}")
