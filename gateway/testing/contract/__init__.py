"""The rules that every engine keeps, as inherited tests. Needs pytest and pytest-asyncio."""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{module}" for module in ("answers", "life", "places", "scores", "tokens"))
)

from gateway.testing.contract.answers import AnswerRules, StopRules  # noqa: E402 - their asserts explain themselves now
from gateway.testing.contract.life import LifeRules  # noqa: E402
from gateway.testing.contract.places import PlaceRules  # noqa: E402
from gateway.testing.contract.scores import ScoreRules  # noqa: E402
from gateway.testing.contract.subject import Subject  # noqa: E402
from gateway.testing.contract.tokens import TokenRules  # noqa: E402


class EngineContract(AnswerRules, StopRules, ScoreRules, TokenRules, PlaceRules, LifeRules):
    """Every rule, for one plugin.

    Subclass it in a test module and override the fixture `make_engine`; override the facts of `Subject` where they
    are not true of the model. A rule about a capability that the model's card does not list is skipped. Each rule
    names the fault in an engine that it is there to catch.
    """


__all__ = [
    "AnswerRules",
    "EngineContract",
    "LifeRules",
    "PlaceRules",
    "ScoreRules",
    "StopRules",
    "Subject",
    "TokenRules",
]
