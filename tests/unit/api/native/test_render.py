import json

import pytest

from gateway.api.native.render import GenerateRendering, to_usage
from gateway.api.native.schema import ChatMessage, GenerateBody
from gateway.engine import Answer, Delta, Finished, FinishReason, ModelCard, Started, ToolDelta, Usage

STARTED = Started(7, cached_tokens=2, queue_seconds=0.25, prefill_seconds=0.5)
FINISHED = Finished(FinishReason.STOP, Usage(7, 3, 2), stop="###")
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}


def rendering(**body) -> GenerateRendering:
    return GenerateRendering(
        GenerateBody(**{"prompt": "ask "} | body),
        ModelCard(name="echo", context_window=9, capabilities=frozenset()),
        "id-1",
    )


def frame(data: bytes) -> dict:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert b"\n" not in data[:-2]
    return json.loads(data.removeprefix(b"data: "))


def reply(rendered: GenerateRendering, text: str) -> dict:
    rendered.note(STARTED)
    return json.loads(rendered.to_reply({0: Answer(started=STARTED, finished=FINISHED, text=text)}, FINISHED.usage))


def test_a_whole_answer_has_all_its_parts():
    answer = reply(rendering(), "said")
    timings = answer.pop("timings")
    assert answer == {
        "generated_text": "ask said",
        "prompt": "ask ",
        "model": "echo",
        "id": "id-1",
        "finish_reason": "stop",
        "stop": "###",
        "usage": USAGE,
    }
    assert (timings["queue"], timings["prefill"]) == (0.25, 0.5)
    assert timings["decode"] >= 0


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({}, "ask said"),
        ({"return_full_text": False}, "said"),
        ({"prompt": None, "messages": (ChatMessage("user", "a"),)}, "said"),
    ],
)
def test_the_prompt_is_shown_where_there_is_a_raw_one_and_it_is_wanted(body, shown):
    assert reply(rendering(**body), "said")["generated_text"] == shown
    streamed = rendering(**body)
    events = [STARTED, Delta("sa"), Delta("id"), FINISHED]
    texts = [frame(data)["text"] for data in map(streamed.to_frame, events) if data]
    assert "".join(texts) == shown


def test_the_last_frame_tells_what_a_whole_answer_tells():
    rendered = rendering()
    rendered.to_frame(STARTED)
    last = frame(rendered.to_frame(FINISHED))
    whole = reply(rendering(), "")
    assert last.keys() == {"text", *whole} - {"generated_text", "prompt"}
    assert last["text"] == ""
    assert {name: last[name] for name in last.keys() - {"text", "timings"}} == {
        name: whole[name] for name in last.keys() - {"text", "timings"}
    }


@pytest.mark.parametrize("event", [Delta(""), Delta("", reasoning="hm"), ToolDelta(0, "{}")])
def test_what_a_client_need_not_see_makes_no_frame(event):
    assert rendering().to_frame(event) == b""


@pytest.mark.parametrize("text", ["a\n\nb", "data: a", "\r\n", "\u2028\u0085", "\0", "🙂", "\ufeff"])
def test_a_frame_is_one_line_whatever_its_text(text):
    data = rendering().to_frame(Delta(text))
    assert b"\r" not in data
    assert frame(data) == {"text": text}


def test_usage_adds_up():
    usage = to_usage(Usage(7, 3, 2))
    assert (usage.total_tokens, usage.prompt_tokens_details.cached_tokens) == (10, 2)


@pytest.mark.parametrize(("reason", "said"), [(FinishReason.STOP, "valid"), (FinishReason.LENGTH, "truncated")])
def test_the_last_frame_of_an_answer_with_a_shape_says_whether_it_is_whole(reason, said):
    rendered = rendering(guided_regex="a")
    rendered.is_structured = True
    assert frame(rendered.to_frame(Finished(reason, Usage(7, 3, 2))))["x_structured"] == said
