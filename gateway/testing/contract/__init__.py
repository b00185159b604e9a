"""The rules that every engine keeps, as inherited tests. Needs pytest and pytest-asyncio."""

from gateway.testing.contract.answers import AnswerRules, StopRules
from gateway.testing.contract.constraints import ConstraintRules
from gateway.testing.contract.drawing import DrawRules
from gateway.testing.contract.explanations import ExplainRules
from gateway.testing.contract.features import FeatureRules
from gateway.testing.contract.life import LifeRules
from gateway.testing.contract.pairs import PairRules
from gateway.testing.contract.places import PlaceRules
from gateway.testing.contract.scores import ScoreRules
from gateway.testing.contract.standby import StandbyRules
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.thoughts import ThoughtRules
from gateway.testing.contract.tokens import TokenRules
from gateway.testing.contract.tools import ToolRules
from gateway.testing.contract.vectors import VectorRules


class EngineContract(
    AnswerRules,
    StopRules,
    DrawRules,
    ConstraintRules,
    FeatureRules,
    VectorRules,
    PairRules,
    ToolRules,
    ThoughtRules,
    ScoreRules,
    TokenRules,
    ExplainRules,
    PlaceRules,
    StandbyRules,
    LifeRules,
):
    """Every rule, for one plugin.

    Subclass it in a test module and override the fixture `make_engine`; override the facts of `Subject` where they
    are not true of the model. A rule about a capability that the model's card does not list is skipped. Each rule
    names the fault in an engine that it is there to catch, and says in a sentence what is wrong.
    """


__all__ = [
    "AnswerRules",
    "ConstraintRules",
    "DrawRules",
    "EngineContract",
    "ExplainRules",
    "FeatureRules",
    "LifeRules",
    "PairRules",
    "PlaceRules",
    "ScoreRules",
    "StandbyRules",
    "StopRules",
    "Subject",
    "ThoughtRules",
    "TokenRules",
    "ToolRules",
    "VectorRules",
]
