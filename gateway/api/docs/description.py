"""The OpenAPI document: what Litestar finds out about the routes, completed with what it cannot know.

Litestar's own schemas of msgspec structs lose docstrings, and constraints inside unions: msgspec's take their place.
"""

from collections.abc import Collection, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, License, OpenAPI, OpenAPIHeader, Schema, SecurityScheme, Server, Tag
from litestar.openapi.spec.enums import OpenAPIType
from msgspec import Struct

from gateway import __version__
from gateway.api.admin.health import Alive, Readiness, ServiceHealth
from gateway.api.admin.requests import CancelledRequest, LiveRequest, RequestList
from gateway.api.batches.schema import BatchBody, BatchList, BatchObject
from gateway.api.docs.pages import Pages, router
from gateway.api.embeddings.schema import ContentBody, ContentVector, EmbeddingsBody, EmbeddingsReply
from gateway.api.exchange.dialect import Dialect
from gateway.api.explain.schema import ExplainBody, Explanation
from gateway.api.files.schema import DeletedFile, FileList, FileObject
from gateway.api.http.problems import OWN_WORDS, ErrorBody
from gateway.api.models.schema import ModelList, ModelParameters, ModelState, Version
from gateway.api.rerank.errors import WORDS as RANKING
from gateway.api.rerank.schema import (
    ClassifyBody,
    ClassifyReply,
    RerankBody,
    RerankReply,
    ScoreBody,
    ScoreReply,
    SecondRerankBody,
)
from gateway.api.tokens.schema import (
    DetokenizeBody,
    DetokenizeReply,
    TemplateBody,
    TemplateReply,
    TokenizeBody,
    TokenizeReply,
)
from gateway.limits import RATE_HEADERS

Tree = dict[str, Any]

# What the routes that belong to no dialect read and write.
_MODELS = (ModelList, ModelState, ModelParameters, Version, ErrorBody)
_TOKENS = (TokenizeBody, TokenizeReply, DetokenizeBody, DetokenizeReply, TemplateBody, TemplateReply)
_EMBEDDINGS = (EmbeddingsBody, EmbeddingsReply, ContentBody, ContentVector)
_RERANK = (RerankBody, SecondRerankBody, RerankReply, ScoreBody, ScoreReply, ClassifyBody, ClassifyReply)
_SERVICE = (ExplainBody, Explanation, RequestList, LiveRequest, CancelledRequest, ServiceHealth, Readiness, Alive)
_BATCHES = (FileObject, FileList, DeletedFile, BatchBody, BatchObject, BatchList)
STRUCTS = (*_MODELS, *_TOKENS, *_EMBEDDINGS, *_RERANK, RANKING.schema, *_BATCHES, *_SERVICE)
HEADERS = {
    "x-request-id": "The request's id; the log has it too.",
    "x-cache": "How it came to its answer: `hit`, `coalesced` or `miss`; left out where the cache had no part in it.",
    "x-engine": "The engine that answered, where `model` was the name of a route; left out else.",
    "x-fallback": "Why another engine of the route was passed over, as an error's code; left out where none was.",
    "x-failed-choices": "The choices of a whole answer that failed, each with its error's code: `1=engine_error`.",
    "x-finish-detail": "`deadline` on a whole answer that ran out of time; left out else.",
    "x-ignored-params": "The body's fields that are unknown here, joined by commas; left out where there were none.",
    "x-structured": "Whether a whole answer that is held to a shape has all of it: `valid`, or `truncated`.",
    "x-stored": "`false` where the answer was to be stored and could not be; left out else.",
    "x-should-retry": "`false` where another try would fail in the same way.",
    "retry-after": "Seconds until another try makes sense.",
    "retry-after-ms": "The same in milliseconds, and exact.",
    "www-authenticate": "How to send a key.",
    **dict.fromkeys(RATE_HEADERS, "How the key's limits stand; left out where it has none."),
    "allow": "The methods that this path takes.",
}
_ABOUT = """One dependable HTTP service in front of language models that run on your own machines.

The same document in other clothes: [Scalar](/schema), [Swagger UI](/docs), [ReDoc](/redoc),
[JSON](/schema/openapi.json).

Every error has the body `ErrorBody`, unless a dialect has one of its own, and every answer the header
`x-request-id`. Where the service has keys, send one: `Authorization: Bearer KEY`, or `x-api-key: KEY`."""
_TAGS = {
    "models": "What is served here; load and unload.",
    "tokens": "What a model reads: tokens, and conversations as their templates write them. In the words of vLLM's and"
    " llama.cpp's servers.",
    "embeddings": "Texts as vectors, in OpenAI's words and in llama.cpp's.",
    "rerank": "Documents ordered for a query, pairs scored, texts classified. In the words of Cohere, Jina and vLLM.",
    "batches": "Many requests in one file, answered while no client waits; and the files.",
    "requests": "What waits and what runs; look, and end it.",
    "health": "Probes for people, balancers and orchestrators.",
    "metrics": "What Prometheus scrapes.",
}
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
# The headers that an error of this status may have beside its id.
_HINTS = {
    "401": ("www-authenticate",),
    "405": ("allow",),
    "409": ("x-should-retry",),
    "429": ("retry-after", "retry-after-ms", *RATE_HEADERS),
    "500": ("x-should-retry",),
    "503": ("retry-after", "x-should-retry"),
    "529": ("retry-after",),
    "504": ("x-should-retry",),
}


class Description(OpenAPIConfig):
    """The settings of the document and its pages, of a service that browsers find at `root`."""

    def __init__(self, dialects: Sequence[Dialect], root: str = "") -> None:
        self._dialects = dialects
        pages = Pages(root)
        tags = {dialect.name: dialect.about for dialect in dialects} | _TAGS
        super().__init__(
            title="LLM gateway",
            version=__version__,
            description=_ABOUT.replace("](/", f"]({root}/"),
            license=License(name="Apache License 2.0", identifier="Apache-2.0"),
            servers=[Server(url=pages.root or "/")],
            tags=[Tag(name, description) for name, description in tags.items()],
            components=Components(
                headers={name: _header(text) for name, text in HEADERS.items()},
                security_schemes={
                    "bearer": SecurityScheme(type="http", scheme="bearer"),
                    "x-api-key": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
                },
            ),
            security=[{"bearer": []}, {"x-api-key": []}, {}],
            use_handler_docstrings=True,
            openapi_router=router(),
            render_plugins=[*pages.all, JsonRenderPlugin()],
        )

    def to_openapi_schema(self) -> OpenAPI:
        """Begin the document; Litestar adds the paths."""
        return _Document(**vars(super().to_openapi_schema()), dialects=self._dialects)


@dataclass
class _Document(OpenAPI):
    dialects: InitVar[Sequence[Dialect]] = ()

    def __post_init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    def to_schema(self) -> Tree:
        tree: Tree = msgspec.json.decode(msgspec.json.encode(super().to_schema()))
        structs = [*STRUCTS, *(struct for dialect in self._dialects for struct in dialect.schemas)]
        _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
        tree["components"]["schemas"] |= schemas
        tree["paths"] = {path: methods for path, methods in tree["paths"].items() if not _is_alias(path, tree["paths"])}
        errors = [
            _reference(words.schema) for words in (OWN_WORDS, RANKING, *(dialect.errors for dialect in self._dialects))
        ]
        for methods in tree["paths"].values():
            for operation in methods.values():
                _complete(operation["responses"], errors)
        return tree


def _is_alias(path: str, paths: Collection[str]) -> bool:
    """Tell whether a path is another name for one that is described: without `/v1`, or with a full id."""
    return f"/v1{path}" in paths or "{owner}" in path


def _reference(kind: type[Struct]) -> Tree:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _complete(answers: Tree, errors: Sequence[Tree]) -> None:
    """Give every answer its headers, and the errors of another package's route the body that they have here."""
    if "500" not in answers:
        answers["default"] = {"description": "An error.", "content": _ERROR}
    for status, answer in answers.items():
        for media in answer.get("content", {}).values():
            for example in media.get("examples", {}).values():
                example.pop("id", None)  # Litestar writes it, OpenAPI does not know it
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        if status == "400" and "$ref" not in schema:
            answer["content"] = _ERROR
        hints = _HINTS.get(status, ()) if schema in errors else ()
        names = ("x-request-id", *hints)
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        answer["headers"] = headers | answer.get("headers", {})


def _header(description: str) -> OpenAPIHeader:
    return OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING), description=description)
