"""Bounds of tools: what no engine should have to understand is refused by its path."""

import pytest

from gateway.api.exchange.tools import MOST_TOOL_BYTES, PendingCalls, ToolPaths, check_tools
from gateway.engine import InvalidRequest, Tool

PATHS = ToolPaths("tools[{}]", "input_schema")


def refused(*tools):
    with pytest.raises(InvalidRequest) as error:
        check_tools(tools, PATHS)
    return error.value.param


def many(count):
    return [Tool(f"f{number}") for number in range(count)]


def test_as_many_tools_as_may_be_are_taken():
    check_tools(many(128), PATHS)
    check_tools((Tool("f", parameters={"properties": {}}), Tool("A-_9" * 16)), PATHS)
    check_tools((), PATHS)


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "f\n", "é", "f.g"])
def test_a_name_has_64_plain_letters_at_most(name):
    assert refused(Tool("f"), Tool(name)) == "tools[1].name"


def test_too_many_and_too_large_tools_are_refused():
    assert refused(*many(129)) == "tools"
    assert refused(Tool("f", "x" * MOST_TOOL_BYTES)) == "tools"
    check_tools((Tool("f", "x" * (MOST_TOOL_BYTES - 100)),), PATHS)


@pytest.mark.parametrize("kind", ["array", None, ["object"], 1, {}])
def test_a_schema_is_of_an_object(kind):
    assert refused(Tool("f", parameters={"type": kind})) == "tools[0].input_schema.type"


@pytest.mark.parametrize(
    "part", [{"default": 2**64}, {"$ref": "http://x/y"}, {"enum": list(range(1_001))}, {"pattern": "a" * 70_000}]
)
def test_a_schema_has_the_bounds_of_all_schemas(part):
    assert refused(Tool("e"), Tool("f", parameters={"properties": {"a": part}})) == "tools[1].input_schema"


def test_no_two_tools_share_a_name():
    assert refused(Tool("f"), Tool("g"), Tool("f", "other")) == "tools[2].name"


def test_a_result_answers_one_call_of_the_turn_before():
    pending = PendingCalls()
    pending.call("a", "x")
    pending.call("b", "y")
    assert pending.only is None
    pending.answer("b", "z")
    assert pending.only == "a"
    for wrong in (lambda: pending.answer("b", "z"), lambda: pending.call("a", "z"), lambda: pending.close("z")):
        with pytest.raises(InvalidRequest) as error:
            wrong()
        assert error.value.param == "z"
    pending.answer("a", "z")
    pending.close("z")
