"""The items of an answer, as its events come."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.output import OutputItems
from gateway.engine import Delta, ToolDelta

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


def test_an_item_that_is_open_is_unfinished():
    output = OutputItems("1")
    for event in (Delta("a", reasoning="b"), Delta("c")):
        list(output.add(event))
    assert [item.status for item in output.to_items("in_progress")] == ["completed", "in_progress"]
