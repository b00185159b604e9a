"""An error crosses the border of an engine's process as it was raised; whatever else is raised, as a plain failure."""

import logging

import pytest
from msgspec.msgpack import Decoder

from gateway.engine import EngineError, Overloaded, Unavailable, Unsupported, border, errors


@pytest.mark.parametrize("kind", sorted(border._KINDS.values(), key=lambda kind: kind.code))
def test_every_error_crosses_with_its_fields(kind):
    error = kind("why")
    if isinstance(error, Overloaded | Unavailable):
        error.retry_after = 7.5
    error.param = "stop"
    crossed = border.to_error(border.decode(border.encode(border.to_failure(error)), Decoder(border.Failure)))
    assert (type(crossed), crossed.__dict__, str(crossed)) == (kind, error.__dict__, "why")


def test_every_error_of_the_tree_can_cross():
    tree = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EngineError)]
    assert sorted(border._KINDS) == sorted(kind.code for kind in tree)


def test_an_error_of_a_plugins_own_crosses_as_its_ancestor():
    class Odd(Unsupported):
        code = "odd"

    assert type(border.to_error(border.to_failure(Odd("no")))) is Unsupported


def test_an_unknown_code_is_a_plain_failure():
    assert type(border.to_error(border.Failure("new", "why"))) is EngineError


def test_a_bug_crosses_without_its_words_and_is_logged(caplog):
    with caplog.at_level(logging.ERROR):
        failure = border.failure_of(ValueError("the prompt was: hi"))
    assert failure == border.BUG
    assert "the prompt was: hi" in caplog.text


def test_an_engines_error_crosses_with_its_words():
    assert border.failure_of(Unsupported("no tools", param="tools")).param == "tools"
