"""What is asked in a server's words, and what is refused because it would drop them."""

import json
import re

import pytest
from msgspec import structs

from gateway.engine import (
    Capability,
    Chat,
    Choice,
    Completion,
    ContextTooLong,
    GenerateRequest,
    Grammar,
    Image,
    InvalidRequest,
    JsonObject,
    JsonSchema,
    Message,
    ModelCard,
    Regex,
    Sampling,
    Text,
    Thought,
    Tokens,
    Tool,
    ToolCall,
    ToolResult,
    Unsupported,
    needs,
)
from gateway_openai.profiles import DOCUMENTED, GATEWAY, OPENAI, PROFILES, llama_server, vllm
from gateway_openai.words import RemoteModel, to_asked

SAID = (Message("system", (Text("Be "), Text("brief."))), Message("user", (Text("Hi"),)))
WEATHER = Tool("weather", "Tell it.", {"type": "object"})
STRICT = structs.replace(WEATHER, strict=True)
CALLED = (
    Message("assistant", (Thought("Hm."), ToolCall("c1", "weather", "{}"))),
    Message("tool", (ToolResult("c1", "sunny"), ToolResult("c2", "rain"))),
)
# A value of each field of `Sampling`.
VALUES = {
    "max_tokens": 1,
    "min_tokens": 1,
    "temperature": 0.1,
    "top_p": 0.2,
    "top_k": 4,
    "min_p": 0.3,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.4,
    "frequency_penalty": 0.5,
    "logit_bias": {7: 1.5},
    "seed": 3,
    "stop": ("s",),
    "stop_token_ids": (9,),
    "include_stop_str_in_output": True,
    "allowed_token_ids": (1, 2),
    "bad_words": ("no",),
    "token_ids": True,
    "ignore_eos": True,
    "logprobs": 2,
    "prompt_logprobs": 1,
}
CONSTRAINTS = (
    JsonSchema({"type": "object"}),
    JsonObject(),
    Regex("[a-z]"),
    Choice(('a"', "b.")),
    Grammar('root ::= "x"'),
)
ALL = [*PROFILES.values(), DOCUMENTED, vllm("0.10.2")]


def model(profile=OPENAI):
    return RemoteModel(ModelCard(name="m", context_window=99, capabilities=profile.takes), "theirs/m", profile)


def request(prompt, constraint=None, **sampling):
    return GenerateRequest(id="1", model="m", prompt=prompt, sampling=Sampling(**sampling), constraint=constraint)


def body(prompt, profile=OPENAI, constraint=None, **sampling):
    return to_asked(request(prompt, constraint, **sampling), model(profile)).body


def test_a_chat_is_asked_in_messages_streamed_with_its_usage():
    asked = to_asked(request(Chat(SAID), max_tokens=5, temperature=0.0, stop=("a", "b")), model())
    assert (asked.path, asked.most) == ("/chat/completions", 5)
    assert asked.body == {
        "model": "theirs/m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 5,
        "temperature": 0.0,
        "stop": ("a", "b"),
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }


def test_a_completion_is_asked_in_a_prompt_and_a_default_counts_where_nothing_is_said():
    asked = GenerateRequest(
        id="1",
        model="m",
        prompt=Completion("x"),
        sampling=Sampling(seed=0),
        defaults=Sampling(seed=9, top_p=0.5, top_k=4, max_tokens=6),
    )
    made = to_asked(asked, model())
    assert (made.path, made.most) == ("/completions", 6)
    assert made.body == {
        "model": "theirs/m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": "x",
        "seed": 0,
        "top_p": 0.5,
        "max_tokens": 6,
    }


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: f"{profile.name}-{profile.shapes}")
@pytest.mark.parametrize("name", VALUES)
def test_every_parameter_that_a_profile_takes_is_sent(profile, name):
    asked = request(Chat(SAID), **{name: VALUES[name]})
    made = to_asked(asked, model(profile))
    plain = to_asked(request(Chat(SAID)), model(profile)).body
    if name in profile.takes:
        assert made.body != plain
        assert name in made.sent.values() or name == "prompt_logprobs"
    elif name != "max_tokens":
        assert needs(asked) - profile.takes == {Capability(name)}, "the gateway refuses it"


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: f"{profile.name}-{profile.shapes}")
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda constraint: type(constraint).__name__)
def test_every_constraint_that_a_profile_takes_is_sent_and_no_other(profile, constraint):
    (kind,) = needs(request(Chat(SAID), constraint)) - {Capability.CHAT}
    if kind in profile.takes:
        made = to_asked(request(Chat(SAID), constraint), model(profile))
        assert kind.value in made.sent.values()
    elif not isinstance(constraint, JsonSchema | JsonObject):
        with pytest.raises(Unsupported) as caught:
            body(Chat(SAID), profile, constraint)
        assert caught.value.param == kind.value


@pytest.mark.parametrize(
    ("profile", "constraint", "asked"),
    [
        ("gateway", Regex("a"), {"structured_outputs": {"regex": "a"}}),
        ("vllm", Choice(("a", "b")), {"structured_outputs": {"choice": ("a", "b")}}),
        ("sglang", Grammar("g"), {"ebnf": "g"}),
        ("llama-server", Choice(("a", 'b"')), {"grammar": 'root ::= "a" | "b\\""'}),
        ("tgi", Regex("a"), {"response_format": {"type": "regex", "value": "a"}}),
        ("tgi", JsonSchema({}), {"response_format": {"type": "json", "value": {}}}),
        ("openai", JsonObject(), {"response_format": {"type": "json_object"}}),
    ],
)
def test_a_constraint_is_written_as_the_server_reads_it(profile, constraint, asked):
    assert body(Chat(SAID), PROFILES[profile], constraint).items() >= asked.items()


def test_a_choice_that_is_a_pattern_matches_its_options_alone():
    pattern = body(Chat(SAID), PROFILES["sglang"], Choice(("a+", "b.")))["regex"]
    assert re.fullmatch(pattern, "a+")
    assert not re.fullmatch(pattern, "aa")


def test_an_older_release_of_vllm_has_guided_words():
    assert body(Completion("x"), vllm("0.10.2"), Regex("a"))["guided_regex"] == "a"
    assert body(Completion("x"), vllm("0.11.0"), Regex("a"))["structured_outputs"] == {"regex": "a"}
    assert vllm("main").shapes == "structured_outputs"


@pytest.mark.parametrize("name", ["openai", "ollama", "lmstudio", "tgi"])
def test_what_a_completion_has_no_word_for_is_refused_by_name(name):
    profile = PROFILES[name]
    for capability in sorted(profile.chat_only & profile.takes & VALUES.keys()):
        with pytest.raises(Unsupported) as caught:
            body(Completion("x"), profile, **{capability: VALUES[capability]})
        assert caught.value.param == capability
    with pytest.raises(Unsupported, match="conversations only"):
        body(Completion("x"), profile, JsonSchema({}))


def test_logprobs_have_two_forms_and_are_asked_with_ids_where_they_can_be():
    assert body(Chat(SAID), OPENAI, logprobs=2).items() >= {"logprobs": True, "top_logprobs": 2}.items()
    assert "return_token_ids" not in body(Chat(SAID), OPENAI, logprobs=2)
    told = body(Completion("x"), GATEWAY, logprobs=2, token_ids=False)
    assert told.items() >= {"logprobs": 2, "return_token_ids": True}.items()


def test_scores_of_a_prompt_come_in_a_whole_answer_with_ids():
    asked = to_asked(request(Completion("x"), prompt_logprobs=0, token_ids=False), model(GATEWAY))
    assert asked.is_whole
    assert asked.body.items() >= {"prompt_logprobs": 0, "return_token_ids": True}.items()
    assert "stream" not in asked.body
    assert not to_asked(request(Completion("x")), model(GATEWAY)).is_whole


def test_calls_and_results_are_messages():
    (_, _, call, one, two) = body(Chat((*SAID, *CALLED), tools=(WEATHER,)))["messages"]
    function = {"name": "weather", "arguments": "{}"}
    assert call == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    assert (one, two) == (
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
    )


def test_a_thought_is_told_a_server_that_reads_thoughts():
    assert body(Chat(CALLED), GATEWAY)["messages"][0]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in body(Chat(CALLED), OPENAI)["messages"][0]


def test_an_image_is_a_part_with_its_data():
    chat = Chat((Message("user", (Text("a"), Image(b"\x00", "image/png"))),))
    assert body(chat)["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]


def test_tools_are_told_with_the_choice_among_them():
    chat = Chat(SAID, (STRICT,), "weather", parallel_tool_calls=False)
    asked = body(chat)
    function = {"name": "weather", "description": "Tell it.", "parameters": {"type": "object"}, "strict": True}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert asked["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in body(structs.replace(chat, parallel_tool_calls=True))


def test_allowed_tools_are_named_or_told_alone():
    chat = Chat(SAID, (WEATHER, Tool("time")), "required", allowed_tools=("time",))
    named = {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}
    assert body(chat)["tool_choice"] == {"type": "allowed_tools", "allowed_tools": named}
    alone = body(chat, PROFILES["vllm"])
    assert alone["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in alone["tools"]] == ["time"]


@pytest.mark.parametrize("name", ["llama-server", "lmstudio"])
def test_a_named_tool_is_told_alone_where_names_are_dropped(name):
    profile = structs.replace(PROFILES[name], takes=PROFILES[name].takes | {Capability.TOOLS})
    asked = body(Chat(SAID, (WEATHER, Tool("time")), "time"), profile)
    assert asked["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["time"]


@pytest.mark.parametrize(
    ("profile", "chat", "param"),
    [
        ("ollama", Chat(SAID, (WEATHER,), "required"), "tool_choice"),
        ("ollama", Chat(SAID, (WEATHER,), "weather"), "tool_choice"),
        ("vllm", Chat(SAID, (STRICT,)), "tools"),
        ("openai", Chat(SAID, reasoning_budget=5), "reasoning_budget"),
        ("tgi", Chat(SAID, reasoning=False), "reasoning"),
        ("tgi", Chat(SAID, reasoning_effort="minimal"), "reasoning_effort"),
        ("vllm", Chat(SAID, reasoning_effort="low"), "reasoning_effort"),
        ("vllm", Chat(SAID, reasoning=True), "reasoning"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(profile, chat, param):
    with pytest.raises(Unsupported) as caught:
        body(chat, PROFILES[profile])
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("profile", "chat", "asked"),
    [
        ("gateway", {"reasoning": True, "reasoning_budget": 4}, {"enable_thinking": True, "thinking_budget": 4}),
        ("gateway", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openai", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openai", {"reasoning": False}, {"reasoning_effort": "none"}),
        ("vllm", {"reasoning": False}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("vllm", {"template_arguments": {"a": 1}}, {"chat_template_kwargs": {"a": 1}}),
        ("vllm", {"continue_final": True}, {"continue_final_message": True, "add_generation_prompt": False}),
        ("vllm", {"generation_prompt": False}, {"add_generation_prompt": False}),
    ],
)
def test_how_to_think_and_where_to_begin_is_said_in_the_servers_words(profile, chat, asked):
    assert body(Chat(SAID, **chat), PROFILES[profile]).items() >= asked.items()


def test_a_prompt_may_be_tokens_or_cut():
    assert body(Tokens((1, 2)))["prompt"] == (1, 2)
    cut = structs.replace(request(Completion("x", add_special=False)), truncate=3, truncation_side="right")
    made = to_asked(cut, model(GATEWAY))
    wanted = {"truncate_prompt_tokens": 3, "truncation_side": "right", "add_special_tokens": False}
    assert made.body.items() >= wanted.items()


def test_a_salt_is_told_a_server_that_keeps_prefixes_by_it():
    salted = structs.replace(request(Completion("x")), salt="mine")
    assert to_asked(salted, model(GATEWAY)).body["cache_salt"] == "mine"
    assert "cache_salt" not in to_asked(salted, model(OPENAI)).body


def test_no_limit_of_the_alternatives_is_minus_one():
    assert body(Completion("x"), GATEWAY, top_k=0)["top_k"] == -1
    assert "top_k" not in body(Completion("x"), OPENAI, top_k=0)


def test_every_body_is_json():
    for profile in ALL:
        taken = {name: value for name, value in VALUES.items() if name in profile.takes - profile.chat_only}
        assert json.loads(json.dumps(body(Completion("x"), profile, **taken)))["prompt"] == "x"


def test_more_tokens_than_the_context_has_are_refused_where_the_server_would_cut_them():
    with pytest.raises(ContextTooLong) as caught:
        body(Completion("x"), PROFILES["llama-server"], max_tokens=100)
    assert caught.value.param == "max_tokens"
    assert body(Completion("x"), PROFILES["llama-server"], max_tokens=99)["max_tokens"] == 99
    assert body(Completion("x"), GATEWAY, max_tokens=100)["max_tokens"] == 100


@pytest.mark.parametrize(("constraint", "schema"), [(JsonSchema({"type": "array"}), "array"), (JsonObject(), "object")])
def test_llama_server_is_asked_for_a_shape_in_words_that_it_reads_in_texts_too(constraint, schema):
    """It drops a response_format in `/completions`, and goes on behind a whole shape where the end is ignored."""
    asked = body(Completion("x"), PROFILES["llama-server"], constraint, ignore_eos=True)
    assert asked["json_schema"] == {"type": schema}
    assert not {"response_format", "ignore_eos"} & asked.keys()
    assert body(Completion("x"), PROFILES["llama-server"], ignore_eos=True)["ignore_eos"] is True


def test_a_choice_of_nothing_is_refused_by_name():
    with pytest.raises(InvalidRequest) as refusal:
        body(Completion("x"), PROFILES["vllm"], Choice(()))
    assert refusal.value.param == "choice"


def test_a_llama_server_whose_template_can_be_told_to_think_is_told_so_and_holds_no_thought_to_a_shape():
    profile, chat = llama_server({"chat_template": "{% if enable_thinking %}"}), Chat(SAID, reasoning=True)
    assert body(chat, profile)["chat_template_kwargs"] == {"enable_thinking": True}
    for shape in (Choice(("a",)), Grammar('root ::= "a"')):
        with pytest.raises(InvalidRequest) as refusal:
            body(chat, profile, shape)
        assert refusal.value.param == "reasoning"
        assert "grammar" in body(structs.replace(chat, reasoning=False), profile, shape)
