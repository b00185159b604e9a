"""Each rule holds for the service, and is broken by a server that does one thing otherwise."""

import asyncio
import itertools
import json
from collections.abc import Callable

import httpx
import pytest

from gateway.cli.conformance.command import GROUPS
from gateway.cli.conformance.peer import Peer
from gateway.cli.conformance.rules import RULES
from gateway.cli.conformance.run import try_rules

NAMES = {each.trial.__name__: each for each in RULES}
# The engine of the service knows no tokens, draws nothing, and answers at once; the service has no keys.
NOT_BY_ECHO = {
    "log_probabilities_are_consistent": "refused",
    "a_bias_forbids_a_token": "absent",
    "a_wrong_key_is_401": "absent",
    "a_seed_repeats": "broken",
    "a_client_that_leaves_frees_its_place": "absent",
}
NUMBERS = itertools.count()
_OF_THE_WIRE = ("content-length", "content-encoding", "transfer-encoding")


class Altered(httpx.AsyncBaseTransport):
    """Passes requests on to the service, and alters its answers; `running` counts requests at a time."""

    def __init__(self, alter) -> None:
        self._alter = alter
        self._inner = httpx.AsyncHTTPTransport()
        self.running = 0
        self.streamed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.running += 1
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        body = _loads(request.content)
        self.streamed += isinstance(body, dict) and body.get("stream") is True
        # Company is what came together, whichever is first answered.
        await asyncio.sleep(0.01)
        found = self._alter(body if isinstance(body, dict) else {}, answer.status_code, content, self)
        self.running -= 1
        if found is None:
            kept = [(key, value) for key, value in answer.headers.items() if key not in _OF_THE_WIRE]
            return httpx.Response(answer.status_code, headers=kept, content=content)
        headers = {"content-type": answer.headers["content-type"]}
        return httpx.Response(found[0], headers=headers, content=found[1])

    async def aclose(self) -> None:
        await self._inner.aclose()


def _loads(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def whole(change: Callable[[dict], object]):
    """Change the JSON of whole answers."""

    def alter(body, status, content, _):
        found = _loads(content)
        if status != 200 or not isinstance(found, dict):
            return None
        change(found)
        return status, json.dumps(found).encode()

    return alter


def frames(change: Callable[[list], list]):
    """Change the data of the frames of streams."""

    def alter(body, status, content, _):
        if status != 200 or not body.get("stream"):
            return None
        datas = [line.removeprefix("data: ") for line in content.decode().splitlines() if line.startswith("data: ")]
        chunks = [data if data == "[DONE]" else json.loads(data) for data in datas]
        changed = [data if isinstance(data, str) else json.dumps(data) for data in change(chunks)]
        return status, "".join(f"data: {data}\n\n" for data in changed).encode()

    return alter


def each(change: Callable[[dict], object]):
    """Change each chunk of streams."""

    def all_of_them(chunks):
        for chunk in chunks:
            if isinstance(chunk, dict):
                change(chunk)
        return chunks

    return frames(all_of_them)


def instead(status: int, text: str = '{"detail": "no"}', *, where: Callable[[dict], object] = lambda _: True):
    """Answer another status and body where the request is such a one."""
    return lambda body, *_: (status, text.encode()) if where(body) else None


def chat(text: str, reason: str = "stop", **message: object):
    """Answer every whole request so."""
    only = {"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": reason}
    return instead(200, json.dumps({"choices": [only], "usage": {"completion_tokens": 2}}))


def told(*logprobs: tuple[str, float, list[float]]):
    """Answer with these tokens, their logarithms, and those of others."""
    content = [
        {"token": token, "bytes": None, "logprob": own, "top_logprobs": [{"token": "x", "logprob": o} for o in others]}
        for token, own, others in logprobs
    ]
    only = {"index": 0, "message": {"content": "ab"}, "logprobs": {"content": content}, "finish_reason": "stop"}
    return instead(200, json.dumps({"choices": [only]}))


def first_choice(**fields: object):
    return whole(lambda found: found["choices"][0].update(fields) if "choices" in found else None)


def counts(**tokens: int):
    return whole(lambda found: found["usage"].update(tokens) if "usage" in found else None)


def _strip(text: dict, name: str) -> None:
    text.pop(name, None)


def _crowded(status: int):
    return lambda body, _, content, seen: (status, content) if seen.running > 1 else None


def _says_how_many(body, status, content, seen):
    found = _loads(content)
    if status == 200 and "choices" in found:
        found["choices"][0]["message"]["content"] = "alone" if seen.running == 1 else "together"
        return status, json.dumps(found).encode()
    return None


def _torn(chunks):
    texts = [chunk for chunk in chunks if chunk != "[DONE]" and chunk["choices"] and chunk["choices"][0]["delta"]]
    texts[-1]["choices"][0]["delta"]["content"] = "\N{REPLACEMENT CHARACTER}"
    return chunks


def _cut(call: str):
    return chat("", "tool_calls", tool_calls=[{"id": "1", "function": {"name": call, "arguments": '{"city": '}}])


def _without_streamed_arguments(chunk: dict) -> None:
    for choice in chunk["choices"]:
        for call in choice["delta"].get("tool_calls") or ():
            call["function"]["arguments"] = ""


BREACHES = {
    "the_model_is_listed": [whole(lambda found: found.update(data=[])), instead(404)],
    "a_chat_answer_has_its_fields": [whole(lambda found: _strip(found, "id")), first_choice(finish_reason="eos")],
    "a_completion_has_its_fields": [whole(lambda found: found.update(object="text")), first_choice(text=None)],
    "usage_adds_up": [counts(total_tokens=1)],
    "the_limit_ends_an_answer": [first_choice(finish_reason="stop")],
    "a_limit_of_either_name_holds": [counts(completion_tokens=6)],
    "the_likeliest_answer_repeats": [
        lambda *asked: chat(f"answer {next(NUMBERS)}")(*asked) if asked[0] else None,
    ],
    "a_seed_repeats": [chat("always the same")],
    "several_answers_have_their_indexes": [chat("one"), instead(500)],
    "a_stream_is_one": [
        frames(lambda chunks: chunks[:-1]),
        frames(lambda chunks: ["no JSON", *chunks]),
        each(lambda chunk: chunk.update(id=id(chunk))),
        frames(lambda chunks: [{"error": {"message": "x"}}, *chunks]),
    ],
    "the_first_chunk_has_the_role": [frames(lambda chunks: chunks[1:]), frames(lambda chunks: chunks[:-2])],
    "a_stream_says_what_the_whole_says": [frames(lambda chunks: [chunks[0], *chunks[2:]])],
    "characters_stay_whole": [frames(_torn)],
    "usage_is_streamed_when_asked_for": [each(lambda chunk: _strip(chunk, "usage"))],
    "usage_is_not_streamed_unasked": [each(lambda chunk: chunk.update(usage={"total_tokens": 1}))],
    "several_streamed_answers_stay_apart": [each(lambda chunk: [c.update(index=0) for c in chunk["choices"]])],
    "a_stop_string_ends_an_answer": [
        first_choice(finish_reason="length"),
        frames(lambda chunks: [chunks[0], *chunks[2:]]),
    ],
    "log_probabilities_are_consistent": [
        told(("ab", 0.5, [0.5, -9, -9])),
        told(("ab", -0.1, [-0.1, -9])),
        told(("ab", -0.1, [-9, -0.1, -9])),
        told(("ab", -3.0, [-0.1, -3, -9])),
        told(("ab", -0.1, [-0.1, -0.2, -0.3])),
        told(("c", -0.1, [-0.1, -9, -9])),
        told(),
    ],
    "a_bias_forbids_a_token": [told(("token_id:7", -0.1, []))],
    "wrong_values_are_refused": [instead(500), chat("taken")],
    "an_unknown_parameter_is_named": [chat("dropped"), instead(400)],
    "an_unknown_model_is_404": [chat("another"), instead(404), instead(500)],
    "an_error_before_a_stream_has_a_status": [chat("another")],
    "what_is_no_json_is_400": [instead(500), instead(400)],
    "what_lacks_its_messages_is_refused": [chat("nothing"), instead(500)],
    "no_messages_are_refused": [chat("nothing")],
    "a_prompt_that_is_too_long_is_refused": [chat("cut"), instead(500)],
    "deep_nesting_is_refused": [
        instead(502),
        lambda body, _, __, ___: (500, b"gone") if "model" in body else None,
    ],
    "wrong_paths_and_methods_are_said": [instead(500)],
    "a_wrong_key_is_401": [instead(403)],
    "a_json_object_is_one": [chat("[1]"), chat("{"), instead(500)],
    "a_schema_is_kept": [chat('{"name": "A", "age": 0, "mood": "sad"}'), chat("Ada is 30.")],
    "a_schema_is_kept_in_a_stream": [frames(lambda chunks: [chunks[0], *chunks[2:]])],
    "a_schema_that_is_none_is_refused": [chat("free")],
    "a_required_call_is_made": [chat("It rains."), _cut("weather"), chat("", "tool_calls")],
    "a_named_call_is_made": [_cut("population"), chat("", tool_calls=[])],
    "a_streamed_call_is_whole": [each(_without_streamed_arguments)],
    "no_call_is_made_where_none_is_wanted": [_cut("weather")],
    "a_result_is_taken": [chat("")],
    "company_changes_no_answer": [_says_how_many],
    "no_client_waits_in_vain": [_crowded(500), _crowded(418)],
}


async def outcome(service, name, alter=None, key=None):
    transport = Altered(alter or (lambda *_: None))
    async with Peer(service.url, key, "echo", transport=transport) as peer:
        return await anext(try_rules(peer, [NAMES[name]]))


def test_every_rule_can_be_broken():
    """That of clients that leave is tried in test_rules_life.py, before servers that keep places."""
    assert BREACHES.keys() | {"a_client_that_leaves_frees_its_place"} == NAMES.keys()


def test_every_group_has_rules_of_its_own_name():
    assert set(GROUPS) == {"models", "answers", "streams", "parameters", "errors", "shapes", "tools", "life"}
    assert len({each.name for each in RULES}) == len(RULES)
    assert all(each.name for each in RULES)


@pytest.mark.parametrize("name", NAMES)
async def test_the_service_keeps_the_rule(service, name):
    found = await outcome(service, name)
    assert found.outcome == NOT_BY_ECHO.get(name, "holds"), found


@pytest.mark.parametrize(("name", "alter"), [(name, alter) for name, them in BREACHES.items() for alter in them])
async def test_a_server_that_breaks_it_is_found(service, name, alter):
    found = await outcome(service, name, alter, key="some-key")
    assert found.outcome == "broken", found
    assert found.detail
