"""Prompts that begin alike have one beginning, whatever follows."""

import pytest

from gateway.engine import Chat, Completion, Message, Text, Tokens, beginning


def chat(*texts):
    roles = ["system", "user", *["assistant", "user"] * len(texts)]
    return Chat(tuple(Message(role, (Text(text),)) for role, text in zip(roles, texts, strict=False)))


def test_a_conversation_keeps_its_beginning_as_it_grows():
    assert beginning(chat("be brief", "hi")) == beginning(chat("be brief", "hi", "hello", "and now?"))


@pytest.mark.parametrize("other", [chat("be brief", "ho"), chat("be long", "hi"), Completion("hi"), Tokens((1,))])
def test_another_beginning_is_another(other):
    assert beginning(other) != beginning(chat("be brief", "hi"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Completion("a" * 5000 + "b"), Completion("a" * 5000 + "c")),
        (Tokens((1,) * 5000 + (2,)), Tokens((1,) * 5000 + (3,))),
    ],
)
def test_what_is_far_behind_does_not_count(one, other):
    assert beginning(one) == beginning(other)


def test_a_lone_surrogate_is_no_error():
    assert beginning(Completion("\ud800"))
