"""Calls and thoughts that are cut off: by the engine, by the client, by their length."""

import pytest

from tests.support.observe import play
from tests.support.sse import frames

CALLS = [{"name": "f", "id": "c0", "arguments": ['{"x":', "1}"]}, {"name": "g", "id": "c1", "arguments": ["{", "}"]}]
SCRIPT = {"texts": ["So."], "thoughts": ["h", "m"], "calls": CALLS}


def ask(script, **fields):
    return {"model": "scripted", "messages": [{"role": "user", "content": play(**script)}]} | fields


def follow(service, path, body):
    with service.client.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        return [frame for frame in frames([answer.read().decode()]) if not isinstance(frame, str) or frame == "[DONE]"]


def test_all_of_an_answer_comes_through_both_apis(edge):
    answer = edge.client.post("/v1/chat/completions", json=ask(SCRIPT)).json()
    choice, usage = answer["choices"][0], answer["usage"]
    assert choice["finish_reason"] == "tool_calls"
    assert (choice["message"]["content"], choice["message"]["reasoning"]) == ("So.", "hm")
    called = [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in choice["message"]["tool_calls"]
    ]
    assert called == [("c0", "f", '{"x":1}'), ("c1", "g", "{}")]
    assert (usage["completion_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]) == (9, 2)
    told = edge.client.post("/v1/messages", json=ask(SCRIPT, max_tokens=50)).json()
    assert [block["type"] for block in told["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert (told["stop_reason"], told["usage"]["output_tokens"]) == ("tool_use", 9)


def test_the_cache_and_those_who_share_an_answer_lose_nothing_of_it(edge):
    body = ask(SCRIPT | {"delay": 0.01}, temperature=0, seed=3)
    answers = [edge.client.post("/v1/chat/completions", json=body) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit"]
    messages = [answer.json()["choices"][0]["message"] for answer in answers]
    assert messages[0] == messages[1]
    streamed = follow(edge, "/v1/chat/completions", body)
    calls = [call for frame in streamed[:-1] for call in frame["choices"][0]["delta"].get("tool_calls", ())]
    assert [call["id"] for call in calls if "id" in call] == ["c0", "c1"]
    assert "".join(call["function"]["arguments"] for call in calls if call["index"] == 0) == '{"x":1}'


@pytest.mark.parametrize("after", [1, 4, 5])
def test_an_engine_that_fails_in_a_thought_or_a_call_ends_the_stream_with_its_error(edge, after):
    script = SCRIPT | {"fault": "raise", "after": after}
    told = follow(edge, "/v1/chat/completions", ask(script))
    assert told[-1]["error"]["code"] == "engine_error"
    assert all(frame["choices"][0]["finish_reason"] is None for frame in told[:-1])
    events = follow(edge, "/v1/messages", ask(script, max_tokens=50))
    assert events[-1]["type"] == "error"
    assert "message_stop" not in {event["type"] for event in events}
    whole = edge.client.post("/v1/chat/completions", json=ask(script))
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "engine_error")


def test_a_call_that_is_cut_says_length_and_has_what_there_is(edge):
    answer = edge.client.post("/v1/chat/completions", json=ask(SCRIPT, max_tokens=5)).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"x":'
    told = edge.client.post("/v1/messages", json=ask(SCRIPT, max_tokens=5)).json()
    assert (told["stop_reason"], told["content"][-1]["input"]) == ("max_tokens", {})


def test_a_client_that_leaves_in_the_middle_of_a_call_leaves_nothing_behind(edge):
    script = SCRIPT | {"calls": [{"name": "f", "arguments": [" "] * 2_000}], "delay": 0.01}
    body = ask(script, stream=True)
    with edge.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if "tool_calls" in line:
                break


def test_tools_beyond_their_bounds_are_refused_by_their_paths(edge):
    question = [{"role": "user", "content": "hi"}]
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(129)]
    wrong = {
        "tools": tools,
        "tools[0].function.name": [{"function": {"name": "a b"}}],
        "tools[0].function.parameters": [{"function": {"name": "f", "parameters": []}}],
        "tools[0].function.parameters.type": [{"function": {"name": "f", "parameters": {"type": "string"}}}],
        "tools[1].function.name": [tools[0], tools[0]],
    }
    for param, given in wrong.items():
        told = edge.client.post("/v1/chat/completions", json={"messages": question, "tools": given})
        assert (told.status_code, told.json()["error"]["param"]) == (400, param), told.text
    large = [{"function": {"name": "f", "description": "x" * 600_000}}]
    told = edge.client.post("/v1/chat/completions", json={"messages": question, "tools": large})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "tools")
