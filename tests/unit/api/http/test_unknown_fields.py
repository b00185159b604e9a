"""Keys that no body knows: another name of something is refused with the right one, anything else is only named."""

import msgspec
import pytest

from gateway.api.anthropic.schema import count_decoder, messages_decoder
from gateway.api.http import unknown_fields
from gateway.api.http.body import RequestBody
from gateway.api.http.problems import Problem
from gateway.api.http.synonyms import ADVICE, MEANT, SHAPES, SYNONYMS
from gateway.api.http.unknown_fields import ApiBody, nearest
from gateway.api.native.schema import GenerateBody
from gateway.api.openai.schema import chat_decoder, completion_decoder
from gateway.api.rerank.schema import ClassifyBody, RerankBody
from gateway.api.tokens.schema import detokenize_decoder, template_decoder, tokenize_decoder

MESSAGES = [{"role": "user", "content": "hi"}]
GENERATING = {
    "/v1/generate": (msgspec.json.Decoder(GenerateBody), {"prompt": "hi"}),
    "/v1/chat/completions": (chat_decoder, {"messages": MESSAGES}),
    "/v1/completions": (completion_decoder, {"prompt": "hi"}),
    "/v1/messages": (messages_decoder, {"model": "m", "max_tokens": 3, "messages": MESSAGES}),
}
OTHERS = {
    "/v1/messages/count_tokens": (count_decoder, {"model": "m", "messages": MESSAGES}),
    "/tokenize": (tokenize_decoder, {"messages": MESSAGES}),
    "/detokenize": (detokenize_decoder, {"tokens": [1]}),
    "/apply-template": (template_decoder, {"messages": MESSAGES}),
}
ROUTES = GENERATING | OTHERS
FIELDS = {route: decoder.type.__struct_encode_fields__ for route, (decoder, _) in ROUTES.items()}
ALL = sorted({name for fields in FIELDS.values() for name in fields})


def unknown(body, decoder):
    sent = RequestBody(msgspec.json.encode(body))
    return sent.unknown(sent.decode(decoder))


def decode(route, **more):
    decoder, least = ROUTES[route]
    return unknown(least | more, decoder)


def refusal(route, **more):
    with pytest.raises(Problem) as refused:
        decode(route, **more)
    assert (refused.value.status, refused.value.code) == (400, "unsupported_parameter")
    return refused.value


def test_every_body_says_its_route():
    assert {route: decoder.type.route for route, (decoder, _) in ROUTES.items()} == {route: route for route in ROUTES}
    assert {route for route, (decoder, _) in ROUTES.items() if decoder.type.generates} == GENERATING.keys()


@pytest.mark.parametrize("route", GENERATING)
@pytest.mark.parametrize("word", sorted(SHAPES))
def test_a_shape_is_never_dropped(route, word):
    if word in FIELDS[route]:
        return
    for value in ({"type": "object"}, ["a"], "a", True):
        assert refusal(route, **{word: value}).param == word


@pytest.mark.parametrize("route", GENERATING)
def test_a_shape_that_asks_for_any_text_is_no_shape(route):
    for word, value in (("format", ""), ("guided_json", None), ("response_format", {"type": "text"})):
        assert word in FIELDS[route] or decode(route, **{word: value}) == [word]


def test_a_shape_inside_a_shape_is_not_dropped():
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "grammar": "a"}}
    assert refusal("/v1/chat/completions", response_format=shape).param == "response_format.json_schema.grammar"


@pytest.mark.parametrize("route", GENERATING)
def test_a_word_for_a_shape_that_a_route_lacks_is_answered_with_its_own(route):
    own = "output_config.format" if route == "/v1/messages" else "response_format"
    assert refusal(route, response_schema={"type": "object"}).message.endswith(f"is asked for with {own}")


@pytest.mark.parametrize("route", GENERATING)
@pytest.mark.parametrize("word", ALL)
def test_no_parameter_of_one_route_is_dropped_by_another(route, word):
    generating = {name for other in GENERATING for name in FIELDS[other]}
    if word in FIELDS[route] or word not in generating:
        return
    problem = refusal(route, **{word: 1})
    assert problem.param == word
    assert any(text in problem.message for text in ("it is called", "has it", "/v1/", "role system", "not supported"))
    assert decode(route, **{word: None}) == [word]


@pytest.mark.parametrize(
    ("route", "word", "right"),
    [
        ("/v1/generate", "max_tokens", "max_new_tokens"),
        ("/v1/generate", "max_completion_tokens", "max_new_tokens"),
        ("/v1/generate", "stop_sequences", "stop"),
        ("/v1/chat/completions", "max_new_tokens", "max_completion_tokens"),
        ("/v1/completions", "max_completion_tokens", "max_tokens"),
        ("/v1/completions", "n_predict", "max_tokens"),
        ("/v1/messages", "stop", "stop_sequences"),
        ("/v1/messages", "system_prompt", "system"),
        ("/v1/messages", "user", "metadata"),
        ("/tokenize", "text", "prompt"),
        ("/detokenize", "ids", "tokens"),
        ("/v1/chat/completions", "timeout", "X-Request-Timeout"),
        ("/v1/chat/completions", "system", "role system"),
        ("/v1/chat/completions", "prompt", "/v1/completions"),
        ("/v1/completions", "messages", "/v1/chat/completions"),
        ("/v1/completions", "options", "into the body itself"),
    ],
)
def test_another_name_is_answered_with_the_right_one(route, word, right):
    assert right in refusal(route, **{word: 1}).message


@pytest.mark.parametrize(
    ("word", "right"),
    [("temprature", "temperature"), ("temperatur", "temperature"), ("topP", "top_p"), ("maxTokens", "max_tokens")],
)
def test_a_near_miss_is_answered_with_what_was_meant(word, right):
    problem = refusal("/v1/chat/completions", **{word: 1})
    assert problem.message == f"{word} is not known here; did you mean {right}?"


def test_a_near_miss_inside_a_message_is_named_by_its_path():
    problem = refusal("/v1/chat/completions", messages=[MESSAGES[0] | {"contnet": "hi"}])
    assert problem.message == "messages[0].contnet is not known here; did you mean messages[0].content?"


@pytest.mark.parametrize(("word", "right"), [("message", "messages"), ("prompt", "/v1/completions")])
def test_a_field_that_is_missing_because_it_was_called_otherwise_is_told_so(word, right):
    with pytest.raises(Problem, match=right) as refused:
        RequestBody(msgspec.json.encode({word: "hi"})).decode(chat_decoder)
    assert refused.value.param == word


@pytest.mark.parametrize("route", OTHERS)
def test_a_route_that_generates_nothing_takes_the_body_of_one_that_does(route):
    more = {"temperature": 1, "max_tokens": 3, "response_format": {"type": "json_object"}, "stop": ["a"], "n": 2}
    assert decode(route, **more) == list(more)


@pytest.mark.parametrize(
    "word",
    [
        *("min_a", "mirostat_tau", "mirostat_eta", "dry_base", "xtc_threshold", "n_keep", "n_discard", "min_keep"),
        *("id_slot", "cache_prompt", "samplers", "provider", "transforms", "plugins", "usage", "request_id", "id"),
        *("mm_processor_kwargs", "keep_alive", "num_ctx", "truncate", "session_id"),
        *("trace_id", "tags", "api_key", "betas", "repeat_last_n", "mode", "kind", "x" * 50),
    ],
)
@pytest.mark.parametrize("route", GENERATING)
def test_a_word_of_another_server_is_only_named(route, word):
    assert decode(route, **{word: 1}) == [word]


@pytest.mark.parametrize("word", MEANT)
@pytest.mark.parametrize("route", GENERATING)
def test_a_word_that_would_change_the_answer_is_refused_unless_it_asks_for_nothing(route, word):
    neutral, instead = MEANT[word]
    for value in (*neutral, None):
        assert decode(route, **{word: value}) == [word]
    problem = refusal(route, **{word: 7})
    assert problem.param == word
    assert problem.message == f"{word} is not a parameter of {route}; {instead}"


@pytest.mark.parametrize("word", MEANT)
@pytest.mark.parametrize("route", OTHERS)
def test_it_does_not_count_where_nothing_is_generated(route, word):
    assert decode(route, **{word: 7}) == [word]


def test_the_tables_lead_to_parameters_that_there_are():
    known = set(ALL)
    # What judges texts has `documents` of its own, which mean something else to what generates.
    judging = {*RerankBody.__struct_encode_fields__, *ClassifyBody.__struct_encode_fields__}
    assert {name for names in SYNONYMS.values() for name in names} <= known | judging
    assert not SHAPES & (SYNONYMS.keys() | ADVICE.keys())
    assert not MEANT.keys() & (SYNONYMS.keys() | ADVICE.keys() | SHAPES | known)


@pytest.mark.parametrize(
    ("word", "nearest_word"),
    [
        ("abcde", "abcdef"),
        ("bacdef", "abcdef"),
        ("abXdef", "abcdef"),
        ("abXXef", None),
        ("abcd", None),
        ("a_b_c_d_e_f", "abcdef"),
        ("", None),
        ("ABCDEF", "abcdef"),
        ("abcdefghXX", "abcdefghij"),
        ("abcdefgXXX", None),
    ],
)
def test_near_is_one_or_two_letters_away(word, nearest_word):
    assert nearest(word, ("abcdef", "abcdefghij", "zz")) == nearest_word


def test_a_body_of_another_package_may_be_any_struct():
    class Other(msgspec.Struct):
        loudness: int = 0

    decoder = msgspec.json.Decoder(Other)
    assert unknown({"n": 1}, decoder) == ["n"]
    with pytest.raises(Problem, match="did you mean loudness"):
        unknown({"loudnes": 1}, decoder)
    assert not issubclass(Other, ApiBody)


@pytest.mark.parametrize("route", ROUTES)
def test_as_many_unknown_fields_are_named_as_any_client_sends_and_more_are_refused(route):
    some = {f"zz{number}": 1 for number in range(unknown_fields.MOST_UNKNOWN)}
    assert len(decode(route, **some)) == unknown_fields.MOST_UNKNOWN
    assert "more than 64" in refusal(route, **some, one_more=1).message


def test_so_many_are_refused_where_a_field_is_missing_too():
    with pytest.raises(Problem, match="more than 64 different unknown fields"):
        RequestBody(msgspec.json.encode({f"zz{number}": 1 for number in range(65)})).decode(chat_decoder)


def test_what_a_name_was_meant_to_be_is_looked_for_once_however_often_it_comes(monkeypatch):
    unknown_fields._nearest_field.cache_clear()
    looked = []
    monkeypatch.setattr(unknown_fields, "nearest", lambda key, _: looked.append(key))
    message = {"role": "user", "content": "a", "zztop": 1, "kalimdor": 2}
    assert len(decode("/v1/chat/completions", messages=[message] * 500)) == 1_000
    assert looked == ["zztop", "kalimdor"]
    unknown_fields._nearest_field.cache_clear()


def test_an_unlikely_or_endless_name_is_compared_with_no_field(monkeypatch):
    monkeypatch.setattr(unknown_fields, "_distance", lambda *_: pytest.fail("it was compared letter by letter"))
    for name in ("zzzzzzzzzzz", "q1w2e3r4t5", "temperature" * 100_000):
        assert nearest(name, FIELDS["/v1/chat/completions"]) is None
