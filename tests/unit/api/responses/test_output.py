"""The items of an answer, as its events come."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.output import OutputItems
from gateway.engine import Delta, TokenLogprob, ToolDelta

texts = st.text("ab ", max_size=3)
deltas = st.builds(Delta, texts, st.just(1), texts)
calls = st.builds(ToolDelta, st.integers(0, 2), texts, st.sampled_from(["c0", "c1"]), st.just("f"))


@given(st.lists(deltas | calls, max_size=20))
def test_the_steps_tell_all_that_the_items_hold(events):
    output = OutputItems("1")
    steps = [step for event in events for step in output.add(event)] + list(output.close())
    told, open_items = {}, []
    for step in steps:
        if step.step == "begin":
            assert open_items == []
            open_items.append(step.item.id)
            told[step.item.id] = ""
        elif step.step == "end":
            assert open_items.pop() == step.item.id
        else:
            assert open_items == [step.item.id]
            assert step.text
            told[step.item.id] += step.text
    assert open_items == []
    assert [(item.id, item.text) for item in output.items] == list(told.items())
    assert [item.index for item in output.items] == list(range(len(output.items)))
    said = "".join(item.text for item in output.items if item.kind == "message")
    assert said == "".join(event.text for event in events if isinstance(event, Delta))
    assert {item.status for item in output.to_items("incomplete")} <= {"completed"}


def scored(text, *tokens, reasoning=""):
    """Make an event whose tokens have scores; a token in bytes is a part of a character."""
    told = (TokenLogprob(0, "?", -1.0, raw=token) if isinstance(token, bytes) else token for token in tokens)
    told = tuple(token if isinstance(token, TokenLogprob) else TokenLogprob(0, token, -1.0) for token in told)
    return Delta(text, len(told), reasoning, told)


MARK = scored("", "</think>")
BEGUN = (scored("", "hm", reasoning="hm"), MARK)
FACE = scored("", b"\xf0\x9f"), scored("\N{GRINNING FACE}", b"\x98\x80")
CALL = (ToolDelta(0, "{}", "c0", "f", 1), scored("", "}"))


@pytest.mark.parametrize(
    ("events", "texts"),
    [
        ((scored("a ", "a "), scored("b", "b")), ["a b"]),
        ((scored("", "a"), scored("ab", "b")), ["ab"]),
        ((*BEGUN, scored("a", "a")), ["a"]),
        ((*BEGUN, *FACE), ["\N{GRINNING FACE}"]),
        (FACE, ["\N{GRINNING FACE}"]),
        ((scored("a", "hm", "</think>", "a", reasoning="hm"), scored("b", "b")), ["ab"]),
        ((scored("a", "a"), scored("", "<call>"), *CALL, scored("b", "</call>", "b")), ["a", "b"]),
        ((scored("a", "a"), scored("c", "hm", "</think>", "c", reasoning="hm")), ["a", "c"]),
        ((scored("a", "a"), scored("", "the end")), ["a"]),
        ((scored("", "a"), Delta("a", 0)), ["a"]),
    ],
)
def test_the_scores_of_a_message_are_those_of_its_text(events, texts):
    output = OutputItems("1")
    steps = [step for event in events for step in output.add(event)]
    said = [item for item in output.items if item.kind == "message"]
    for item, text in zip(said, texts, strict=True):
        assert item.text == text
        scores = msgspec.json.decode(item.scores)
        assert bytes(byte for token in scores for byte in token["bytes"]) == text.encode()
        told = [msgspec.json.decode(step.scores) for step in steps if step.item is item and step.step == "more"]
        assert [score for piece in told for score in piece] == scores
        assert all(told)
    assert all(msgspec.json.decode(item.scores) == [] for item in output.items if item.kind != "message")


def test_a_score_is_said_as_json_can():
    top = (TokenLogprob(1, "a", -0.25), TokenLogprob(2, "\N{REPLACEMENT CHARACTER}", float("-inf")))
    output = OutputItems("1")
    list(output.add(Delta("a", 1, "", (TokenLogprob(1, "a", float("nan"), top),))))
    unknown = {"token": "\N{REPLACEMENT CHARACTER}", "bytes": [], "logprob": -9999.0}
    (score,) = msgspec.json.decode(output.items[0].scores)
    assert score == {
        "token": "a",
        "bytes": [97],
        "logprob": -9999.0,
        "top_logprobs": [{"token": "a", "bytes": [97], "logprob": -0.25}, unknown],
    }


def test_an_item_that_is_open_is_unfinished():
    output = OutputItems("1")
    for event in (Delta("a", reasoning="b"), Delta("c")):
        list(output.add(event))
    assert [item.status for item in output.to_items("in_progress")] == ["completed", "in_progress"]
