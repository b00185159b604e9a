"""An error's code is its name on the wire, and the tree in the docstring is the tree."""

import pytest

import gateway.engine
from gateway.engine import EngineError, InvalidRequest, Overloaded, Unavailable, errors


def kinds(kind):
    return [kind, *(narrower for child in kind.__subclasses__() for narrower in kinds(child))]


OURS = [kind for kind in kinds(EngineError) if kind.__module__ == errors.__name__]
every_kind = pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)


def test_codes_are_unique():
    assert len({kind.code for kind in OURS}) == len(OURS)


@every_kind
def test_every_kind_has_its_own_code(kind):
    assert "code" in vars(kind)


@every_kind
def test_every_kind_stands_in_the_tree_with_its_code(kind):
    lines = [line.split() for line in errors.__doc__.splitlines() if kind.__name__ in line.split()]
    lines += [line[1:] for line in lines if line[0] == "│"]
    assert any(kind.code in line for line in lines), f"{kind.__name__} is not in the docstring's tree"


@every_kind
def test_every_kind_is_indented_below_its_parent(kind):
    tree = {
        word: line.index(word) for line in errors.__doc__.splitlines() for word in line.split() if word == kind.__name__
    }
    depth = kind.__mro__.index(EngineError)
    assert tree[kind.__name__] == 4 * (depth + 1)


@every_kind
def test_every_kind_is_exported(kind):
    assert getattr(gateway.engine, kind.__name__) is kind


@every_kind
def test_a_message_is_enough_to_make_one(kind):
    error = kind("the prompt has 5 tokens")
    assert (error.message, str(error)) == ("the prompt has 5 tokens", "the prompt has 5 tokens")


def test_a_refused_request_names_the_field():
    assert InvalidRequest("too hot", param="temperature").param == "temperature"


def test_a_full_engine_says_when_to_come_back():
    assert Overloaded("full", retry_after=2.5).retry_after == 2.5
    assert Unavailable("starting", retry_after=3.0).retry_after == 3.0
