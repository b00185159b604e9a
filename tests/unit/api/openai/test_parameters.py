"""The table of parameters: each changes what is asked or answered as documented, or is refused by its name."""

import msgspec
import pytest
from msgspec import structs

from gateway.api.exchange.dialect import ParameterTables
from gateway.api.exchange.shape import ShapedBody
from gateway.api.models.controller import to_parameters
from gateway.api.openai.dialect import DIALECT
from gateway.api.openai.parameters import NEEDS, REFUSED, TAKEN
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody
from gateway.api.openai.translate import reword
from gateway.engine import (
    Capability,
    Choice,
    Delta,
    Grammar,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Started,
    TokenLogprob,
    Tokens,
    Unsupported,
    needs,
    negotiate,
)
from tests.support.openai_dialect import ABLE, asked, chat, finished, prompts, streamed, text, whole

TOOLS = [{"type": "function", "function": {"name": "f"}}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
STARTED = Started(7)

# What a field of both routes asks of the engine: where in the request, and what is there.
SHARED = {
    "model": ("m2", "model", "m2"),
    "temperature": (0.5, "sampling.temperature", 0.5),
    "top_p": (0.5, "sampling.top_p", 0.5),
    "top_k": (5, "sampling.top_k", 5),
    "min_p": (0.5, "sampling.min_p", 0.5),
    "repetition_penalty": (1.5, "sampling.repetition_penalty", 1.5),
    "presence_penalty": (0.5, "sampling.presence_penalty", 0.5),
    "frequency_penalty": (0.5, "sampling.frequency_penalty", 0.5),
    "logit_bias": ({"5": -100}, "sampling.logit_bias", {5: -100.0}),
    "seed": (7, "sampling.seed", 7),
    "stop": ("x", "sampling.stop", ("x",)),
    "stop_token_ids": ([2], "sampling.stop_token_ids", (2,)),
    "include_stop_str_in_output": (True, "sampling.include_stop_str_in_output", True),
    "allowed_token_ids": ([2, 3], "sampling.allowed_token_ids", (2, 3)),
    "bad_words": (["no"], "sampling.bad_words", ("no",)),
    "return_token_ids": (True, "sampling.token_ids", True),
    "min_tokens": (4, "sampling.min_tokens", 4),
    "ignore_eos": (True, "sampling.ignore_eos", True),
    "max_tokens": (9, "sampling.max_tokens", 9),
    "prompt_logprobs": (2, "sampling.prompt_logprobs", 2),
    "cache_salt": ("s", "salt", "s"),
}
SHAPES = [
    ({"json": {"type": "object"}}, JsonSchema({"type": "object"})),
    ({"json_object": True}, JsonObject()),
    ({"regex": "a+"}, Regex("a+")),
    ({"choice": ["a", "b"]}, Choice(("a", "b"))),
    ({"grammar": "g"}, Grammar("g")),
]
# Values that ask for something of what nobody here does.
ASKING = {
    "add_special_tokens": True,
    "audio": {"voice": "a"},
    "length_penalty": True,
    "modalities": ["audio"],
    "moderation": {"model": "m"},
    "prediction": {"type": "content", "content": "a"},
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "skip_special_tokens": False,
    "suffix": "a",
    "use_beam_search": True,
    "verbosity": "low",
    "web_search_options": {},
}
WITHOUT_EFFECT = {"user": "u", "service_tier": "flex", "safety_identifier": "u", "prompt_cache_key": "k"}
# Tested one by one below, or in the transcripts.
ELSEWHERE = {
    ChatCompletionBody: {
        *("messages", "max_completion_tokens", "logprobs", "top_logprobs", "tools", "tool_choice"),
        *("parallel_tool_calls", "functions", "function_call", "metadata", "store"),
        *("reasoning_effort", "thinking", "reasoning", "enable_thinking", "thinking_budget", "thinking_token_budget"),
        *("thinking_budget_tokens", "reasoning_budget", "include_reasoning"),
        *("continue_final_message", "add_generation_prompt", "chat_template_kwargs", "echo"),
    },
    CompletionBody: {"prompt", "echo", "logprobs", "best_of", "add_special_tokens"},
}
BODIES = {ChatCompletionBody: chat, CompletionBody: text}
EVERY_REFUSED = [(kind, name) for kind, each in REFUSED.items() for name in each]
EVERYWHERE = {"stream", "stream_options", "n", "truncate_prompt_tokens", *ShapedBody.__struct_fields__}
EVERYWHERE |= {"return_tokens_as_token_ids", "timings_per_token", "truncation_side"}


def find(request, path):
    for name in path.split("."):
        request = getattr(request, name)
    return request


def missing(body, need):
    """Ask a model that lacks one capability; say what the refusal names."""
    card = structs.replace(ABLE, capabilities=ABLE.capabilities - {need})
    (request,) = prompts(body, card).requests
    with pytest.raises(Unsupported) as refused:
        negotiate(request, card)
    reword(refused.value, body)
    return refused.value.param


@pytest.mark.parametrize("kind", [ChatCompletionBody, CompletionBody])
def test_every_parameter_is_in_a_test(kind):
    refused = REFUSED[kind].keys()
    taken = TAKEN & set(kind.__struct_fields__)
    assert {*SHARED, *refused, *taken, *ELSEWHERE[kind], *EVERYWHERE} == set(kind.__struct_fields__)
    assert ASKING.keys() == {name for each in REFUSED.values() for name in each}
    assert WITHOUT_EFFECT.keys() == TAKEN


@pytest.mark.parametrize("make", [chat, text])
@pytest.mark.parametrize("field", SHARED)
def test_a_parameter_reaches_the_engine(make, field):
    value, path, wanted = SHARED[field]
    assert find(asked(make()), path) != wanted
    assert find(asked(make(**{field: value})), path) == wanted


@pytest.mark.parametrize("make", [chat, text])
@pytest.mark.parametrize("field", [field for field in SHARED if field in NEEDS])
def test_a_model_that_cannot_do_it_refuses_it_by_its_name(make, field):
    value, _, _ = SHARED[field]
    assert missing(make(**{field: value}), NEEDS[field]) == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (chat(max_completion_tokens=5), "max_completion_tokens"),
        (chat(logprobs=True), "logprobs"),
        (text(logprobs=0), "logprobs"),
        (text(best_of=2), "best_of"),
        (chat(tools=TOOLS), "tools"),
        (chat(tools=TOOLS, parallel_tool_calls=False), "parallel_tool_calls"),
        (chat(response_format=FORMAT), "response_format"),
        (chat(response_format={"type": "json_object"}), "response_format"),
        *((make(structured_outputs=shape), "structured_outputs") for make in (chat, text) for shape, _ in SHAPES),
        (chat(response_format={"type": "text"}, structured_outputs={"json": {}}), "structured_outputs"),
        (text(echo=True, logprobs=1), "echo"),
        (text(prompt=[1, 2]), "prompt"),
        (text(), "prompt"),
        (chat(), "messages"),
    ],
)
def test_so_does_one_that_lacks_what_a_route_has_of_its_own(body, field):
    needs = {
        "max_completion_tokens": "max_tokens", "best_of": "logprobs", "echo": "prompt_logprobs", "messages": "chat",
        "response_format": "json_schema", "structured_outputs": "json_schema",
    }  # fmt: skip
    request = asked(body)
    need = needs.get(field, field)
    if request.constraint is not None:
        need = type(request.constraint).__struct_config__.tag
    elif field == "prompt":
        need = "tokens" if isinstance(request.prompt, Tokens) else "completion"
    assert missing(body, Capability(need)) == field


def test_a_model_without_eyes_says_where_the_image_is():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}, picture]}]
    assert missing(chat(messages=turns), Capability.VISION) == "messages[1].content[1].image_url"


@pytest.mark.parametrize(("kind", "field"), EVERY_REFUSED)
def test_what_nobody_does_is_refused_by_its_name(kind, field):
    with pytest.raises(Unsupported, match=field) as refused:
        prompts(BODIES[kind](**{field: ASKING[field]}))
    assert refused.value.param == field


@pytest.mark.parametrize(("kind", "field"), EVERY_REFUSED)
def test_it_may_be_asked_for_nothing(kind, field):
    make = BODIES[kind]
    for value in (None, *REFUSED[kind][field]):
        assert asked(make(**{field: value})) == asked(make())


@pytest.mark.parametrize("field", sorted(TAKEN))
def test_what_is_taken_changes_nothing(field):
    assert asked(chat(**{field: WITHOUT_EFFECT[field]})) == asked(chat())


def test_minus_one_turns_top_k_off():
    assert asked(chat(top_k=-1)).sampling.top_k == 0


def test_both_words_for_the_length_of_a_chat_mean_the_same():
    assert asked(chat(max_completion_tokens=5)) == asked(chat(max_tokens=5, max_completion_tokens=5))
    assert asked(chat(max_completion_tokens=5)).sampling.max_tokens == 5


def test_logprobs_are_the_number_of_alternatives():
    assert [asked(body).sampling.logprobs for body in (chat(), chat(logprobs=False), text())] == [None, None, None]
    assert asked(chat(logprobs=True)).sampling.logprobs == 0
    assert asked(chat(logprobs=True, top_logprobs=20)).sampling.logprobs == 20
    assert asked(text(logprobs=0)).sampling.logprobs == 0


def test_a_prompt_is_scored_only_where_that_is_seen():
    assert asked(text(echo=True)).sampling.prompt_logprobs is None
    assert asked(text(echo=True, logprobs=3)).sampling.prompt_logprobs == 3
    assert asked(text(echo=True, logprobs=3, prompt_logprobs=5)).sampling.prompt_logprobs == 5
    assert asked(text(echo=True, prompt=[1, 2])).sampling.prompt_logprobs == 0
    assert asked(text(echo=True, truncate_prompt_tokens=1)).sampling.prompt_logprobs == 0


@pytest.mark.parametrize("make", [chat, text])
@pytest.mark.parametrize(("shape", "constraint"), SHAPES)
def test_a_shape_in_vllms_words(make, shape, constraint):
    assert asked(make(structured_outputs=shape)).constraint == constraint


@pytest.mark.parametrize(
    ("format_", "constraint"),
    [({"type": "text"}, None), ({"type": "json_object"}, JsonObject()), (FORMAT, JsonSchema({"type": "object"}))],
)
def test_a_shape_in_openais_words(format_, constraint):
    assert asked(chat(response_format=format_)).constraint == constraint


@pytest.mark.parametrize("body", [chat, text])
def test_a_prompt_may_be_cut_to_its_last_tokens(body):
    assert asked(body()).truncate is None
    assert asked(body(truncate_prompt_tokens=2)).truncate == 2
    assert missing(body(truncate_prompt_tokens=2), Capability.TOKENIZE) == "truncate_prompt_tokens"


@pytest.mark.parametrize("body", [chat, text])
def test_a_prompt_may_be_cut_at_its_end(body):
    assert asked(body()).truncation_side == asked(body(truncation_side="left")).truncation_side == "left"
    assert asked(body(truncate_prompt_tokens=2, truncation_side="right")).truncation_side == "right"
    right = body(truncate_prompt_tokens=2, truncation_side="right")
    assert missing(right, Capability.TRUNCATION_SIDE) == "truncation_side"
    # Without a number nothing is cut.
    assert Capability.TRUNCATION_SIDE not in needs(asked(body(truncation_side="right")))


@pytest.mark.parametrize("body", [chat, text])
def test_a_prompt_may_be_cut_to_what_fits(body):
    assert asked(body(truncate_prompt_tokens=-1)).truncate == 99
    assert asked(body(truncate_prompt_tokens=-1, max_tokens=30)).truncate == 70
    assert asked(body(truncate_prompt_tokens=-1, max_tokens=300)).truncate == 1
    with pytest.raises(InvalidRequest) as refused:
        prompts(body(truncate_prompt_tokens=0))
    assert refused.value.param == "truncate_prompt_tokens"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (text(logprobs=-1), "logprobs"),
        (chat(logprobs=True, top_logprobs=-1), "top_logprobs"),
        (chat(prompt_logprobs=-1), "prompt_logprobs"),
    ],
)
def test_the_whole_vocabulary_is_refused_with_what_there_is_instead(body, field):
    with pytest.raises(Unsupported, match=f"{field} is -1.*ask for up to 20") as refused:
        prompts(body)
    assert refused.value.param == field


def test_a_text_may_do_without_what_the_tokenizer_adds():
    assert [asked(text(add_special_tokens=on)).prompt.add_special for on in (None, True, False)] == [True, True, False]
    assert missing(text(add_special_tokens=False), Capability.TOKENIZE) == "add_special_tokens"


def test_an_answer_may_go_on_with_the_last_message():
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    body = chat(messages=turns, continue_final_message=True, add_generation_prompt=False)
    assert asked(body).prompt.continue_final
    assert missing(body, Capability.CONTINUE_FINAL) == "continue_final_message"
    assert not asked(chat(messages=turns, add_generation_prompt=True)).prompt.continue_final
    closed = chat(add_generation_prompt=False)
    assert not asked(closed).prompt.generation_prompt
    assert missing(closed, Capability.CONTINUE_FINAL) == "add_generation_prompt"
    for wrong, param in (
        (chat(messages=turns, continue_final_message=True, add_generation_prompt=True), "add_generation_prompt"),
        (chat(continue_final_message=True), "continue_final_message"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            prompts(wrong)
        assert refused.value.param == param


def test_the_template_gets_further_variables():
    body = chat(chat_template_kwargs={"enable_thinking": True, "style": "short"})
    assert asked(body).prompt.template_arguments == {"enable_thinking": True, "style": "short"}
    assert missing(body, Capability.TEMPLATE_ARGUMENTS) == "chat_template_kwargs"


@pytest.mark.parametrize("make", [chat, text])
def test_a_stream_has_the_usage_only_where_it_is_asked_for(make):
    events = (STARTED, Delta("a"), finished())
    assert b"usage" not in streamed(make(stream=True), *events)
    assert b'"usage":{' in streamed(make(stream=True, stream_options={"include_usage": True}), *events)


def test_of_a_prompt_that_was_cut_the_echo_has_what_was_read():
    read = Started(1, prompt_logprobs=(TokenLogprob(1, "i", 0.0),))
    answer = whole(text(echo=True, truncate_prompt_tokens=1), read, Delta("a"), finished())
    assert answer["choices"][0]["text"] == "ia"


def test_an_echo_begins_with_its_prompt():
    events = (STARTED, Delta("a"), finished())
    assert [whole(text(echo=echo), *events)["choices"][0]["text"] for echo in (None, False, True)] == ["a", "a", "hia"]


@pytest.mark.parametrize(("route", "kind"), [("chat.completions", ChatCompletionBody), ("completions", CompletionBody)])
def test_the_table_that_is_shown_says_for_every_parameter_what_becomes_of_it(route, kind):
    shown = to_parameters(ABLE, ParameterTables([DIALECT])).routes[route]
    listed = [*shown.honoured, *shown.taken, *shown.refused]
    assert len(listed) == len(set(listed))
    assert {path.partition(".")[0] for path in listed} == set(kind.__struct_fields__)
    dull = to_parameters(
        structs.replace(ABLE, capabilities=frozenset({Capability.CHAT, Capability.COMPLETION})),
        ParameterTables([DIALECT]),
    )
    kept = {"model", "stream", "stream_options", "n", "cache_salt", "messages", "prompt", "echo", "metadata"}
    kept |= {"include_reasoning", "store", "timings_per_token"}
    assert set(dull.routes[route].honoured) == kept & set(listed)


def test_the_table_names_only_parameters_and_capabilities_that_there_are():
    fields = {*ChatCompletionBody.__struct_fields__, *CompletionBody.__struct_fields__}
    assert {path.partition(".")[0] for path in NEEDS} | TAKEN | ASKING.keys() <= fields
    assert (
        msgspec.json.decode(msgspec.json.encode(to_parameters(ABLE, ParameterTables([DIALECT]))))["object"]
        == "model.capabilities"
    )
