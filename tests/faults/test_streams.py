"""What a stream carries: every text unharmed, pings between, and errors that nobody takes for an end."""

import codecs
import json
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.observe import eventually, is_error, logged, play, scrape
from tests.support.processes import worker
from tests.support.service import Service
from tests.support.sse import frames

TEXTS = [
    "data: not a frame\n\ndata: [DONE]\n\n",
    "event: error\nid: 5\nretry: 1\n: ping\n\n",
    "one\r\ntwo\rthree\n\n\nfour",
    "line\u2028paragraph\u2029next\u0085feed\x0b\x0c",
    "nul\0 escape\x1b[31m bell\x07 delete\x7f",
    "\ufeffa mark at the begin, and \ufeff inside",
    "Grüße 世界 🙂 👩\u200d🚀 🏳\ufe0f\u200d🌈 é e\u0301 \U0010ffff",
    '"quotes" \\backslashes\\ </script> <|im_end|> </s>',
]


def stream(service: Service, **body) -> tuple[bytes, list[dict | str]]:
    """Return the bytes of a stream, and its frames."""
    with service.client.stream("POST", "/v1/generate", json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        raw = answer.read()
    return raw, list(frames([raw.decode()]))


def joined(events: list[dict | str]) -> str:
    return "".join(event["text"] for event in events if isinstance(event, dict))


def assert_carried(service: Service, text: str) -> None:
    raw, events = stream(service, prompt=text, return_full_text=False)
    whole = service.generate(prompt=text, return_full_text=False).json()["generated_text"]
    assert joined(events) == whole == text
    assert events[-1] == "[DONE]"
    assert events[-2]["finish_reason"] == "stop"
    # A frame is one line and an empty one, and nothing else stands between.
    assert re.fullmatch(rb"(data: [^\r\n]+\n\n|: ping\n\n)+", raw)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_through_byte_for_byte(edge, text):
    assert_carried(edge, text)


@settings(
    max_examples=120,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n\r: \u2028"), min_size=1))
@example(text=": ")
@example(text="\n\n")
def test_any_text_comes_through_byte_for_byte(running_edge, text):
    assert_carried(running_edge, text)


def test_the_prompt_comes_first_where_it_is_asked_for(edge):
    _, events = stream(edge, prompt="data: a\n\n")
    assert events[0] == {"text": "data: a\n\n"}
    assert joined(events) == edge.generate(prompt="data: a\n\n").json()["generated_text"]


def test_characters_are_whole_however_the_bytes_are_cut(edge):
    text = "🙂👩\u200d🚀世界" * 50
    with edge.client.stream(
        "POST", "/v1/generate", json={"prompt": text, "stream": True, "return_full_text": False}
    ) as answer:
        decoder = codecs.getincrementaldecoder("utf-8")()
        pieces = [decoder.decode(piece) for piece in answer.iter_raw(chunk_size=7)]
    assert joined(list(frames(pieces))) == text


def test_tokens_that_complete_no_text_make_no_frame(edge):
    _, events = stream(edge, model="scripted", prompt=play(texts=["", "a", "", "b", ""]), return_full_text=False)
    assert [event["text"] for event in events[:-1]] == ["a", "b", ""]
    assert events[-2]["usage"]["completion_tokens"] == 5


def test_pings_keep_a_slow_stream_alive_and_its_frames_whole(edge):
    script = play(texts=["slow ", "and ", "steady"], delay=0.5)
    raw, events = stream(edge, model="scripted", prompt=script, return_full_text=False)
    assert events.count(": ping") >= 2
    assert joined(events) == "slow and steady"
    assert re.fullmatch(rb"(data: [^\r\n]+\n\n|: ping\n\n)+", raw)


def test_a_quick_stream_has_no_pings(edge):
    assert ": ping" not in stream(edge, prompt="a b c")[1]


# What the errors of an engine are, before and after the first event

BEFORE = {
    "invalid_value": 400,
    "unsupported_parameter": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "engine_error": 500,
    "upstream_unavailable": 502,
    "overloaded": 503,
    "engine_unavailable": 503,
    "draining": 503,
    "load_failed": 503,
    "deadline_exceeded": 504,
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("code", "status"), BEFORE.items())
def test_an_error_before_the_first_event_is_a_status(edge, code, status, streamed):
    script = play(fault="raise", after=-1, code=code, message="so it is")
    answer = edge.generate(model="scripted", prompt=script, stream=streamed)
    assert is_error(answer, status, code, "prompt" if code == "context_length_exceeded" else None)
    assert answer.json()["error"]["message"] == "so it is"
    if status == 503 and code != "load_failed":
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    if code in ("engine_error", "deadline_exceeded", "load_failed"):
        assert answer.headers["x-should-retry"] == "false"
    assert logged(edge, answer.headers["x-request-id"])["code"] == code


# Time that is up after the first event is an end, not an error.
@pytest.mark.parametrize("code", sorted(BEFORE.keys() - {"deadline_exceeded"}))
def test_an_error_after_the_first_event_is_one_frame_and_no_end(edge, code):
    script = play(texts=["a ", "b "], fault="raise", after=1, code=code, message="so it is")
    _, events = stream(edge, model="scripted", prompt=script, return_full_text=False)
    *told, last = events
    assert told == [{"text": "a "}]
    assert set(last) == {"error"}
    assert (last["error"]["code"], last["error"]["message"]) == (code, "so it is")
    assert set(last["error"]) == {"message", "type", "param", "code"}


def test_an_error_in_a_whole_answer_is_a_status_however_much_was_made(edge):
    script = play(fault="raise", after=2, code="engine_error")
    assert is_error(edge.generate(model="scripted", prompt=script), 500, "engine_error")


def test_a_stream_that_is_cut_off_has_no_end(edge):
    script = play(texts=["a ", "b "], fault="cut", after=1)
    _, events = stream(edge, model="scripted", prompt=script, return_full_text=False)
    assert events[0] == {"text": "a "}
    assert events[-1]["error"]["code"] == "engine_error"
    assert "[DONE]" not in events
    assert is_error(edge.generate(model="scripted", prompt=script), 500, "engine_error")


def test_a_stream_that_is_cut_off_before_its_first_event_is_a_status(edge):
    script = play(fault="cut", after=-1)
    for streamed in (False, True):
        answer = edge.generate(model="scripted", prompt=script, stream=streamed)
        assert is_error(answer, 500, "engine_error")


def test_an_aborted_stream_is_written_down_and_counted(edge):
    sample = 'llm_gateway_stream_aborts_total{cause="upstream_unavailable"}'
    script = play(texts=["a"], fault="raise", after=1, code="upstream_unavailable")
    before = scrape(edge).get(sample, 0)
    with edge.client.stream(
        "POST", "/v1/generate", json={"model": "scripted", "prompt": script, "stream": True}
    ) as answer:
        answer.read()
    line = logged(edge, answer.headers["x-request-id"])
    assert (line["status"], line["code"], line["outcome"]) == (200, "upstream_unavailable", "aborted")
    assert scrape(edge)[sample] == before + 1


@pytest.mark.parametrize("fault", ["panic", "quit", "interrupt"])
def test_what_is_no_exception_is_an_error_of_one_request_in_the_workers_own_engine_too(running_edge, fault):
    before = worker(running_edge.process.pid)
    for after in (-1, 1):
        script = play(texts=["a "], fault=fault, after=after, message="secret inside")
        whole = running_edge.generate(model="scripted", prompt=script)
        assert is_error(whole, 500, "engine_error")
        assert "secret" not in whole.text
        if after < 0:
            assert is_error(running_edge.generate(model="scripted", prompt=script, stream=True), 500, "engine_error")
        else:
            _, events = stream(running_edge, model="scripted", prompt=script, return_full_text=False)
            assert (events[0], events[-1]["error"]["code"]) == ({"text": "a "}, "engine_error")
    # Its one place is free, and the worker is the same.
    answer = running_edge.generate(model="scripted", prompt=play(texts=["right"]), return_full_text=False)
    assert answer.json()["generated_text"] == "right"
    assert worker(running_edge.process.pid) == before


def test_a_bug_in_an_engine_says_nothing_of_its_inside(running_edge):
    script = play(texts=["a "], fault="bug", after=1, message="secret inside")
    answer = running_edge.generate(model="scripted", prompt=script)
    assert is_error(answer, 500, "internal_error")
    _, events = stream(running_edge, model="scripted", prompt=script, return_full_text=False)
    assert events[-1]["error"]["code"] == "internal_error"
    assert "secret" not in answer.text + json.dumps(events[-1]["error"])
    eventually(lambda: running_edge.output.count("secret inside") >= 2)
    assert running_edge.generate(prompt="still here").status_code == 200
