"""The rules that every engine keeps, as inherited tests. Needs pytest and pytest-asyncio."""

import pytest

pytest.register_assert_rewrite("gateway.testing.answers", "gateway.testing.life", "gateway.testing.places")

from gateway.testing.answers import AnswerRules, StopRules  # noqa: E402 - after the line that lets their asserts explain
from gateway.testing.life import LifeRules  # noqa: E402
from gateway.testing.places import PlaceRules  # noqa: E402


class EngineContract(AnswerRules, StopRules, PlaceRules, LifeRules):
    """Every rule, for one plugin.

    Subclass it in a test module and override the fixture `make_engine`; override the facts of `Subject` where they
    are not true of the model. A rule about a capability that the model's card does not list is skipped. Each rule
    names the fault in an engine that it is there to catch.
    """
