import json
import re
import typing

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from gateway.api.admin import health
from gateway.api.anthropic import blocks, events
from gateway.api.anthropic import schema as anthropic_schema
from gateway.api.anthropic.errors import to_status
from gateway.api.batches import schema as batches_schema
from gateway.api.docs import Description
from gateway.api.edge import PROBES
from gateway.api.embeddings import schema as embeddings_schema
from gateway.api.exchange import paging
from gateway.api.explain import schema as explain_schema
from gateway.api.files import schema as files_schema
from gateway.api.http import problems
from gateway.api.http.problems import TABLE, ErrorBody, Problem
from gateway.api.models import schema as models
from gateway.api.native import schema
from gateway.api.openai import messages, reply
from gateway.api.openai import schema as openai_schema
from gateway.api.rerank import errors as rerank_errors
from gateway.api.rerank import schema as rerank_schema
from gateway.api.responses import conversation_schema, items
from gateway.api.responses import events as responses_events
from gateway.api.responses import reply as responses_reply
from gateway.api.responses import schema as responses_schema
from gateway.api.routes import DIALECTS
from gateway.api.tokens import schema as tokens_schema
from gateway.app import create_app
from gateway.config import Config, EngineSettings, ServerSettings
from gateway.limits import RATE_HEADERS

PAGES = ("/schema", "/schema/scalar", "/schema/swagger", "/schema/redoc", "/docs", "/redoc")
MESSAGES = ("/v1/messages", "/v1/messages/count_tokens")
RESPONSES = ("/v1/responses", "/v1/responses/input_tokens", "/v1/conversations")
ASSETS = ("redoc.js", "scalar.js", "swagger_bundle.js", "swagger_style.css")
STRUCTS = {
    name: kind
    for module in (
        *(files_schema, batches_schema, explain_schema),
        *(
            schema,
            health,
            problems,
            openai_schema,
            messages,
            models,
            reply,
            tokens_schema,
            embeddings_schema,
            rerank_schema,
            rerank_errors,
        ),
        *(
            anthropic_schema,
            blocks,
            events,
            items,
            responses_events,
            responses_reply,
            responses_schema,
            conversation_schema,
            paging,
        ),
    )
    for name, kind in vars(module).items()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ == module.__name__
    and name[0] != "_"
    if kind is not problems.ErrorWords
}
USER = [{"role": "user", "content": "one"}]
FIELDS = [(struct, field.encode_name) for struct in STRUCTS for field in msgspec.structs.fields(STRUCTS[struct])]
BODY_FIELDS = [field for struct, field in FIELDS if struct == "GenerateBody"]


def app(**settings) -> Litestar:
    return create_app(Config(engines={"default": EngineSettings(plugin="echo")}, server=ServerSettings(**settings)))


@pytest.fixture(scope="module")
def document(service) -> dict:
    return service.client.get("/schema/openapi.json").json()


@pytest.fixture(scope="module")
def operations(document) -> dict:
    return {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def answers(operations):
    return [(status, answer) for operation in operations.values() for status, answer in operation["responses"].items()]


def bodies(operations):
    """Every media type of every body, asked or answered."""
    contents = [operation["requestBody"]["content"] for operation in operations.values() if "requestBody" in operation]
    contents += [answer["content"] for _, answer in answers(operations)]
    return [(kind, media) for content in contents for kind, media in content.items()]


def is_error(answer) -> bool:
    schema = answer["content"].get("application/json", {}).get("schema", {})
    return schema.get("$ref", "").rpartition("/")[2] in ("ErrorBody", "MessageError", "RankingErrorBody")


def is_anthropics(answer) -> bool:
    return is_error(answer) and answer["content"]["application/json"]["schema"]["$ref"].endswith("MessageError")


def test_the_document_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_it_names_the_licence_and_a_relative_server(document):
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_every_route_is_in_it_once_but_the_documentation(document):
    routes = {route.path_format: route.methods - {"OPTIONS"} for route in app().routes}
    pages = {path for path in routes if path.startswith(("/schema", "/playground")) or path in (*PAGES, "/")}
    written = {path: {method.upper() for method in methods} for path, methods in document["paths"].items()}
    assert written.items() <= routes.items()
    left_out = routes.keys() - written.keys() - pages
    # Without `/v1`, with the full id of a model, or as others call a probe: other names for what is there.
    left_out -= PROBES
    assert all(f"/v1{path}" in written or "{owner}" in path or path[3:] in written for path in left_out), left_out
    assert "/chat/completions" in left_out


def test_every_operation_says_what_it_does(document, operations):
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert len(operations) == sum(map(len, document["paths"].values()))
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"].endswith("."), name
        assert set(operation["tags"]) <= set(tags), name
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], name


def test_every_struct_is_described(document):
    schemas = document["components"]["schemas"]
    assert STRUCTS.keys() <= schemas.keys()
    for name, struct in STRUCTS.items():
        assert schemas[name]["description"] == struct.__doc__


@pytest.mark.parametrize(("struct", "field"), FIELDS)
def test_every_field_is_described_with_examples_that_it_takes(document, struct, field):
    written = document["components"]["schemas"][struct]["properties"][field]
    if "$ref" in written:
        return
    assert written["description"].endswith(".")
    is_plain = written.get("type") == "boolean" or "enum" in written or "$ref" in written.get("items", {})
    names = {each.encode_name: each.name for each in msgspec.structs.fields(STRUCTS[struct])}
    kind = typing.get_type_hints(STRUCTS[struct], include_extras=True)[names.get(field, field)]
    assert written.get("examples") or is_plain or kind == (bool | None) or "boolean" in json.dumps(written)
    for example in written.get("examples", ()):
        msgspec.json.decode(json.dumps(example), type=kind)


def test_every_example_is_what_its_struct_decodes(operations):
    checked = 0
    for _, media in bodies(operations):
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        for example in media.get("examples", {}).values() if name else ():
            msgspec.json.decode(json.dumps(example["value"]), type=STRUCTS[name])
            checked += 1
    assert checked > len(TABLE)


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions", "/v1/completions", *MESSAGES, *RESPONSES])
def test_every_example_of_a_request_is_answered(service, document, path):
    examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    answers = [service.client.post(path, json=example["value"]) for example in examples.values()]
    assert {answer.status_code for answer in answers} == {200}


def test_the_streams_example_is_a_stream(operations):
    media = operations["generate"]["responses"]["200"]["content"]["text/event-stream"]
    *frames, done, end = media["examples"]["stream"]["value"].split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    *texts, last = [frame.removeprefix("data: ") for frame in frames]
    assert "".join(msgspec.json.decode(text, type=schema.TextFrame).text for text in texts).endswith("Paris.")
    assert msgspec.json.decode(last, type=schema.LastFrame).finish_reason == "stop"
    named = [kind["$ref"].rpartition("/")[2] for kind in media["schema"]["contentSchema"]["anyOf"]]
    assert named == ["TextFrame", "LastFrame", "ErrorBody"]


@pytest.mark.parametrize(
    ("name", "kind"), [("chatCompletions", reply.ChatChunk), ("completions", reply.CompletionReply)]
)
def test_the_example_of_a_stream_in_openais_dialect_is_one(operations, name, kind):
    media = operations[name]["responses"]["200"]["content"]["text/event-stream"]
    *frames, done, end = media["examples"]["stream"]["value"].split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [msgspec.json.decode(frame.removeprefix("data: "), type=kind) for frame in frames]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    named = [kind["$ref"].rpartition("/")[2] for kind in media["schema"]["contentSchema"]["anyOf"]]
    assert named == [kind.__name__, "ErrorBody"]


def test_the_example_of_a_stream_in_anthropics_dialect_is_one(operations):
    media = operations["messages"]["responses"]["200"]["content"]["text/event-stream"]
    *frames, end = media["examples"]["stream"]["value"].split("\n\n")
    assert end == ""
    told = [frame.removeprefix("event: ").split("\ndata: ") for frame in frames]
    assert [name for name, _ in told][-2:] == ["message_delta", "message_stop"]
    for name, text in told:
        assert msgspec.json.decode(text, type=events.StreamEvent).__struct_config__.tag == name
    named = [kind["$ref"].rpartition("/")[2] for kind in media["schema"]["contentSchema"]["anyOf"]]
    assert named == [kind.__name__ for kind in events.EVENTS]


def test_every_code_that_a_client_can_get_has_an_example(operations):
    found = set()
    for status, answer in answers(operations):
        for code, example in answer["content"]["application/json"]["examples"].items() if is_error(answer) else ():
            if is_anthropics(answer):
                assert to_status(Problem(code)) == int(status)
                continue
            body = msgspec.convert(example["value"], ErrorBody)
            assert TABLE[code] == (int(status), body.error.type)
            assert body.error.code == code
            found.add(code)
    assert found == TABLE.keys() - {"client_closed_request", "write_timeout"}


def test_every_answer_names_its_headers(document, operations):
    assert set(document["components"]["headers"]) == {
        *("x-request-id", "x-ignored-params", "x-should-retry", "retry-after", "retry-after-ms", "allow"),
        *(
            "www-authenticate",
            "x-cache",
            "x-engine",
            "x-fallback",
            "x-failed-choices",
            "x-finish-detail",
            "x-structured",
            "x-stored",
            *RATE_HEADERS,
        ),
    }
    for name in ("generate", "completions", "chatCompletions", "messages"):
        told = operations[name]["responses"]["200"]["headers"]
        assert {"x-ignored-params", "x-cache", "x-finish-detail"} <= told.keys()
    for status, answer in answers(operations):
        assert "x-request-id" in answer["headers"]
        assert ("allow" in answer["headers"]) == (status == "405")
        assert ("retry-after" in answer["headers"]) == (status in ("429", "503", "529") and is_error(answer))
        assert ("www-authenticate" in answer["headers"]) == (status == "401")
        assert (set(RATE_HEADERS) <= answer["headers"].keys()) == (status == "429")
        assert ("x-should-retry" in answer["headers"]) == (status in ("409", "500", "503", "504") and is_error(answer))


def test_the_documented_headers_are_sent(service):
    assert service.client.post("/livez").headers["allow"] == "GET, HEAD, OPTIONS"
    assert service.generate(prompt="a", unheard_of=1).headers["x-ignored-params"] == "unheard_of"


@pytest.mark.parametrize(
    "asked",
    [
        ("generate", "POST", "/v1/generate", {"prompt": "one two", "stop": "two"}),
        ("generate", "POST", "/v1/generate", {"prompt": "one two", "temperature": 3}),
        ("generate", "POST", "/v1/generate", {"prompt": "one two", "model": "none"}),
        ("chatCompletions", "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "one"}]}),
        ("chatCompletions", "POST", "/v1/chat/completions", {"messages": []}),
        ("completions", "POST", "/v1/completions", {"prompt": ["one", "two"], "n": 2}),
        ("completions", "POST", "/completions", {"prompt": "one", "audio": 1, "suffix": "a"}),
        ("messages", "POST", "/v1/messages", {"model": "echo", "max_tokens": 9, "messages": USER}),
        ("responses", "POST", "/v1/responses", {"input": "one two", "max_output_tokens": 1}),
        ("responses", "POST", "/v1/responses", {"input": "one", "image": {}}),
        ("countInputTokens", "POST", "/v1/responses/input_tokens", {"input": "one two"}),
        ("getResponse", "GET", "/v1/responses/resp_none", None),
        ("deleteResponse", "DELETE", "/v1/responses/resp_none", None),
        ("cancelResponse", "POST", "/v1/responses/resp_none/cancel", None),
        ("listChatCompletions", "GET", "/v1/chat/completions", None),
        ("listChatCompletions", "GET", "/v1/chat/completions?limit=0", None),
        ("getChatCompletion", "GET", "/v1/chat/completions/chatcmpl-none", None),
        ("updateChatCompletion", "POST", "/v1/chat/completions/chatcmpl-none", {"metadata": {}}),
        ("listChatMessages", "GET", "/v1/chat/completions/chatcmpl-none/messages", None),
        ("deleteChatCompletion", "DELETE", "/v1/chat/completions/chatcmpl-none", None),
        ("createConversation", "POST", "/v1/conversations", {"items": [{"role": "user", "content": "one"}]}),
        ("createConversation", "POST", "/v1/conversations", {"items": [{"type": "computer_call"}]}),
        ("getConversation", "GET", "/v1/conversations/conv_none", None),
        ("updateConversation", "POST", "/v1/conversations/conv_none", {"metadata": {}}),
        ("deleteConversation", "DELETE", "/v1/conversations/conv_none", None),
        ("addItems", "POST", "/v1/conversations/conv_none/items", {"items": USER}),
        ("listItems", "GET", "/v1/conversations/conv_none/items", None),
        ("getItem", "GET", "/v1/conversations/conv_none/items/item_none", None),
        ("deleteItem", "DELETE", "/v1/conversations/conv_none/items/item_none", None),
        ("listInputItems", "GET", "/v1/responses/resp_none/input_items", None),
        ("messages", "POST", "/v1/messages", {"model": "echo", "messages": USER}),
        ("messages", "POST", "/v1/messages", {"model": "none", "max_tokens": 9, "messages": USER}),
        ("countTokens", "POST", "/v1/messages/count_tokens", {"model": "echo", "messages": USER}),
        ("listModels", "GET", "/v1/models", None),
        ("listModels", "GET", "/models", None),
        ("showModel", "GET", "/v1/models/echo", None),
        ("showModel", "GET", "/v1/models/nobody/nothing", None),
        ("showCapabilities", "GET", "/v1/models/echo/capabilities", None),
        ("showCapabilities", "GET", "/v1/models/nobody/nothing/capabilities", None),
        ("version", "GET", "/version", None),
        ("tokenize", "POST", "/tokenize", {"prompt": "one"}),
        ("detokenize", "POST", "/v1/detokenize", {"tokens": []}),
        ("applyTemplate", "POST", "/apply-template", {"messages": []}),
        ("tokenizerInfo", "GET", "/tokenizer_info?model=echo", None),
        ("tokenizerInfo", "GET", "/v1/tokenizer_info?model=none", None),
        ("rerank", "POST", "/rerank", {"query": "a", "documents": ["a"]}),
        ("rerankSecond", "POST", "/v2/rerank", {"query": "a", "documents": []}),
        ("score", "POST", "/v1/score", {"text_1": "a"}),
        ("classify", "POST", "/classify", {"input": "a"}),
        ("embedContent", "POST", "/embedding", {"content": "a"}),
        ("listRequests", "GET", "/v1/requests", None),
        ("cancelRequest", "DELETE", "/v1/requests/none", None),
        ("health", "GET", "/v1/health", None),
        ("readyz", "GET", "/readyz", None),
        ("livez", "GET", "/livez", None),
        ("loadModel", "POST", "/v1/models/echo/load", None),
        ("unloadModel", "POST", "/v1/models/none/unload", None),
        ("unloadModel", "POST", "/v1/models/none/at-all/unload", None),
        ("loadModel", "POST", "/v1/models/none/at-all/load", None),
    ],
)
def test_real_answers_are_as_documented(service, document, operations, asked):
    name, method, path, body = asked
    answer = service.client.request(method, path, json=body)
    written = operations[name]["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    OAS31Validator(written | {"components": document["components"]}).validate(answer.json())


@pytest.mark.parametrize("field", BODY_FIELDS)
def test_a_value_just_outside_its_documented_bound_is_refused(service, document, field):
    for value in outside(document["components"]["schemas"]["GenerateBody"]["properties"][field]):
        answer = service.generate(**{"prompt": "one", field: value})
        assert answer.status_code == 400, value
        assert answer.json()["error"]["code"] == "invalid_value"
        assert answer.json()["error"]["param"].startswith(field), answer.text


@pytest.mark.parametrize("field", BODY_FIELDS)
def test_a_value_at_its_documented_bound_is_taken(document, field):
    kind = typing.get_type_hints(schema.GenerateBody, include_extras=True)[field]
    for value in at_bounds(document["components"]["schemas"]["GenerateBody"]["properties"][field]):
        msgspec.json.decode(json.dumps(value), type=kind)


def branches(written) -> list[dict]:
    return [branch for branch in written.get("anyOf", [written]) if branch.get("type") != "null"]


def outside(written) -> list:
    """Values just outside the bounds; of another type where there are none. Never nothing."""
    found = []
    for branch in branches(written):
        step = 1 if branch.get("type") == "integer" else 0.001
        fill = [" "] if branch.get("items", {}).get("type") == "string" else [0]
        found += [branch[bound] - step for bound in ("minimum",) if bound in branch]
        found += [branch[bound] + step for bound in ("maximum",) if bound in branch]
        found += [branch[bound] for bound in ("exclusiveMinimum",) if bound in branch]
        found += ["x" * (branch["minLength"] - 1)] if "minLength" in branch else []
        found += ["x" * (branch["maxLength"] + 1)] if "maxLength" in branch else []
        found += [[] * branch["minItems"]] if "minItems" in branch else []
        if "maxItems" in branch:
            item = {"role": "user", "content": "a"} if "$ref" in branch["items"] else fill[0]
            found += [[item] * (branch["maxItems"] + 1)]
            found += [[value] for value in outside(branch["items"])] if "$ref" not in branch["items"] else []
        if "maxProperties" in branch:
            found += [{str(key): 0 for key in range(branch["maxProperties"] + 1)}, {"-1": 0}]
            found += [{"1": value} for value in outside(branch["additionalProperties"])]
        found += ["true"] if branch.get("type") == "boolean" else []
        found += [5] if "$ref" in branch or "enum" in branch else []
    assert found, written
    return found


def at_bounds(written) -> list:
    """The outermost values inside the bounds."""
    found = []
    for branch in branches(written):
        found += [branch[bound] for bound in ("minimum", "maximum") if bound in branch]
        found += ["x" * branch[bound] for bound in ("minLength", "maxLength") if bound in branch]
        if "maxItems" in branch:
            items = [{"role": "user", "content": "a"}] if "$ref" in branch["items"] else at_bounds(branch["items"])
            found += [[item] * branch["maxItems"] for item in items]
        if "maxProperties" in branch:
            values = at_bounds(branch["additionalProperties"])
            found += [{str(key): value for key in range(branch["maxProperties"])} for value in values]
        found += [True, False] if branch.get("type") == "boolean" else []
    return found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_nothing_outside_this_service(service, path):
    answer = service.client.get(path)
    assert answer.headers["content-type"].startswith("text/html")
    assert "//" not in answer.text
    assert len(answer.content) < 2_000


@pytest.mark.parametrize("field", BODY_FIELDS)
def test_a_field_says_what_holds_where_it_is_left_out(document, field):
    written = document["components"]["schemas"]["GenerateBody"]["properties"][field]
    decoded = getattr(schema.GenerateBody(), field)
    assert written["default"] == decoded
    assert field in ("prompt", "messages") or decoded is not None or "left out" in written["description"].lower()


def test_the_short_paths_show_the_same_pages(service):
    for short, long in (("/schema", "/schema/scalar"), ("/docs", "/schema/swagger"), ("/redoc", "/schema/redoc")):
        assert service.client.get(short).text == service.client.get(long).text


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_may_be_kept_for_ever_and_is_the_same_compressed(service, name):
    plain = service.client.get(f"/schema/assets/{name}", headers={"accept-encoding": "identity"})
    packed = service.client.get(f"/schema/assets/{name}", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 0.4 * int(plain.headers["content-length"])
    assert packed.content == plain.content
    assert "immutable" in packed.headers["cache-control"]
    assert packed.headers["vary"] == "accept-encoding"


def test_assets_are_counted_under_one_template(service):
    service.client.get("/schema/assets/redoc.js")
    label = next(route.path_format for route in app().routes if "assets" in route.path)
    assert service.metric("llm_gateway_requests_total", endpoint=label, status="200") >= 1
    assert service.metric("llm_gateway_requests_total", endpoint="/schema/assets/redoc.js") == 0


@pytest.mark.parametrize(
    "path", ["/schema/none", "/schema/none.json", "/schema/assets/none", "/schema/assets/url.json"]
)
def test_an_unknown_page_is_an_error_like_any_other(service, path):
    answer = service.client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_turned_off_there_are_no_pages_and_no_document():
    transport = httpx.ASGITransport(app(docs=False, playground=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in ("/", *PAGES, "/schema/openapi.json", *(f"/schema/assets/{name}" for name in ASSETS)):
            assert (await client.get(path)).status_code == 404, path


def test_a_route_of_another_package_gets_the_errors_that_it_has_here():
    @get("/hello/{name:str}")
    async def hello(name: FromPath[str]) -> dict[str, str]:
        """Greet."""
        return {"hello": name}

    document = Litestar([hello], openapi_config=Description(DIALECTS)).openapi_schema.to_schema()
    validate(document)
    written = document["paths"]["/hello/{name}"]["get"]["responses"]
    assert is_error(written["400"])
    assert is_error(written["default"])
    assert "x-request-id" in written["200"]["headers"]


@pytest.mark.parametrize("root", ["", "/llm"])
async def test_the_pages_and_the_document_are_under_the_prefix(root):
    app = create_app(Config(server=ServerSettings(root_path=root, playground=False)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        document = (await client.get(f"{root}/schema/openapi.json")).json()
        assert document["servers"] == [{"url": root or "/"}]
        assert not any(path.startswith("/llm") for path in document["paths"])
        assert f"[ReDoc]({root}/redoc)" in document["info"]["description"]
        assert (await client.get(f"{root}/")).headers["location"] == f"{root}/schema"
        for path in PAGES:
            page = (await client.get(root + path)).text
            named = re.findall(r"""["'](/[^"']+)["']""", page)
            assert named
            assert {(await client.get(address)).status_code for address in named} == {200}
            assert all(address.startswith(f"{root}/schema/") for address in named)
