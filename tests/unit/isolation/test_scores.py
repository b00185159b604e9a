"""Scores of any number cross the border whole, and never in one large frame."""

from contextlib import aclosing

import pytest

from gateway.engine import Engine, Finished, FinishReason, ModelCard, Started, TokenLogprob, Usage
from gateway.isolation import RemoteEngine
from gateway.isolation import client as client_module
from tests.support.border import scripted, served

MOST = 2_048


class Scorer(Engine):
    """Tells a start with these scores."""

    def __init__(self, tokens, alternatives):
        top = tuple(TokenLogprob(at, str(at), -1.0) for at in range(alternatives))
        self.started = Started(tokens, prompt_logprobs=tuple(TokenLogprob(at, "x", -0.5, top) for at in range(tokens)))

    def models(self):
        return (ModelCard(name="scorer", context_window=8, capabilities=frozenset()),)

    async def generate(self, request):
        yield self.started
        yield Finished(FinishReason.STOP, Usage(self.started.prompt_tokens, 0))


@pytest.mark.parametrize(
    ("tokens", "alternatives"), [(0, 0), (1, 20), (MOST, 0), (MOST + 1, 0), (3_000, 5), (8, 3_000)]
)
async def test_scores_arrive_whole_and_in_small_frames(monkeypatch, tokens, alternatives):
    frames, read = [], client_module.read_message

    def reading(body):
        frames.append(len(body))
        return read(body)

    monkeypatch.setattr(client_module, "read_message", reading)
    engine = Scorer(tokens, alternatives)
    async with (
        served(engine) as (_, path),
        RemoteEngine(path) as remote,
        aclosing(remote.generate(scripted())) as events,
    ):
        assert await anext(events) == engine.started
        assert isinstance(await anext(events), Finished)
    # A score takes some fourteen bytes; a token and its alternatives are never torn apart.
    assert max(frames) <= 20 * max(MOST, 1 + alternatives)
