"""The examples of errors in the documentation are errors that the service makes."""

import pytest

from gateway.api.http.problems import to_problem
from gateway.api.reference.errors import example
from gateway.engine import (
    Capability,
    Completion,
    EngineError,
    GenerateRequest,
    ModelCard,
    Sampling,
    answer_limit,
    negotiate,
)

CARD = ModelCard(name="echo", context_window=4_096, capabilities=frozenset({Capability.COMPLETION}))
REQUEST = GenerateRequest(id="", model="echo", prompt=Completion("a"), sampling=Sampling(logit_bias={1: 1.0}))


@pytest.mark.parametrize(
    ("code", "refuse"),
    [
        ("context_length_exceeded", lambda: answer_limit(Sampling(), 5_000, CARD)),
        ("unsupported_parameter", lambda: negotiate(REQUEST, CARD)),
    ],
)
def test_an_example_is_a_real_message(code, refuse):
    with pytest.raises(EngineError) as refused:
        refuse()
    problem = to_problem(refused.value)
    written = example(code).error
    assert (written.code, written.message, written.param) == (problem.code, problem.message, problem.param)
