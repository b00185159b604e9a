"""What is left out of a conversation that is too long."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.responses.truncation import shorten
from gateway.engine import Chat, Completion, GenerateRequest, Message, Text, ToolCall, ToolResult

LONG = "x" * 100


def say(role, name):
    return Message(role, (Text(name + LONG),))


def call(*names):
    calls = Message("assistant", tuple(ToolCall(name, "f", "{}" + LONG) for name in names))
    return calls, *(Message("tool", (ToolResult(name, LONG),)) for name in names)


def asked(*messages):
    return GenerateRequest(id="1", model="m", prompt=Chat(messages))


def name_of(message):
    part = message.parts[0]
    if isinstance(part, Text):
        return part.text.removesuffix(LONG)
    return f"={part.id}" if isinstance(part, ToolResult) else part.id


def steps(*messages):
    """Say what is left after each step, until nothing may go."""
    request, left = asked(*messages), []
    while (request := shorten(request)) is not None:
        left.append(" ".join(map(name_of, request.prompt.messages)))
    return left


def test_the_oldest_question_goes_first_with_its_answer():
    told = [say(role, f"{role[0]}{turn}") for turn in range(3) for role in ("user", "assistant")]
    assert steps(say("system", "s"), *told, say("user", "u3")) == [
        "s u1 a1 u2 a2 u3",
        "s u2 a2 u3",
        "s u3",
    ]


def test_the_steps_between_a_question_and_its_answer_go_before_them():
    turn = (say("user", "u0"), *call("a"), *call("b", "c"), say("assistant", "a0"))
    assert steps(*turn, say("user", "u1")) == [
        "u0 b =b =c a0 u1",
        "u0 a0 u1",
        "u1",
    ]


def test_behind_the_last_question_the_oldest_steps_go_and_the_last_one_stays():
    assert steps(say("user", "u"), *call("a"), *call("b"), *call("c")) == ["u b =b c =c", "u c =c"]


def test_what_the_system_says_stays_wherever_it_stands():
    told = (say("assistant", "a"), say("system", "s"), say("user", "u"), say("user", "v"))
    assert steps(*told) == ["s u v", "s v"]


def test_without_a_question_the_last_step_stays():
    assert steps(*call("a"), *call("b")) == ["b =b"]
    assert steps(say("system", "s")) == []


def test_a_prompt_that_is_no_conversation_is_not_shortened():
    assert shorten(GenerateRequest(id="1", model="m", prompt=Completion("one two"))) is None


turns = st.lists(
    st.one_of(
        st.builds(lambda role: (say(role, role),), st.sampled_from(["user", "assistant", "system"])),
        st.builds(lambda number: call(*map(str, range(number))), st.integers(1, 3)),
    ),
    max_size=40,
)


@given(turns)
def test_each_step_leaves_out_an_eighth_and_no_half_of_a_pair(parts):
    messages = tuple(message for part in parts for message in part)
    request, count = asked(*messages), 0
    while (shorter := shorten(request)) is not None:
        before, after = request.prompt.messages, shorter.prompt.messages
        assert len(after) < len(before)
        rest = iter(before)
        assert all(message in rest for message in after)  # in their order
        calls = sum(isinstance(part, ToolCall) for message in after for part in message.parts)
        assert calls == sum(message.role == "tool" for message in after)
        for role in ("system", "user"):
            kept, had = ([m for m in each if m.role == role] for each in (after, before))
            assert kept == had if role == "system" else kept[-1:] == had[-1:]
        request, count = shorter, count + 1
    assert count <= 40
    assert request.prompt.messages[-1:] == messages[-1:]
