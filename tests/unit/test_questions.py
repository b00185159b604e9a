"""A question is held to its caller's limits, to its time and to what its model can do."""

import asyncio

import pytest
from msgspec import structs

from gateway.admission import Admission, AdmissionSettings
from gateway.auth import ANONYMOUS
from gateway.config import Config, EngineSettings
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    Embeddings,
    EmbedRequest,
    ScoreRequest,
    TextScores,
    TokenSpelling,
    Unsupported,
)
from gateway.hosting.hosting import Hosting
from gateway.hosting.routing import Target
from gateway.limits import Limiter, Quota, TokensExceeded
from gateway.questions import MOST_IDS, Inquiry, Questions
from gateway.testing.scripted import ScriptedEngine
from tests.support.observe import play

CAN = [str(capability) for capability in (Capability.COMPLETION, Capability.TOKENIZE, Capability.TOKEN_COUNT)]


@pytest.fixture
async def house():
    """Questions, and the hosting behind them."""
    engines = {"default": EngineSettings(plugin="scripted", settings={"capabilities": CAN})}
    config = Config(engines=engines)
    async with Hosting(config.engines, 0.1) as hosting:
        await hosting.settled.wait()
        admission = Admission(AdmissionSettings(questions=1))
        yield Questions(hosting, admission, Limiter(), CurrentConfig(Snapshot.of(config))), hosting, admission


def inquire(hosting, seconds=None, quota=Quota()):  # noqa: B008 - it never changes
    return Inquiry(Target(*hosting.find(None)), structs.replace(ANONYMOUS, quota=quota), seconds)


async def test_a_question_is_answered_and_leaves_nothing(house):
    questions, hosting, admission = house
    assert await questions.count_tokens(inquire(hosting), Completion("one two")) == 2
    assert await questions.tokenize(inquire(hosting), Completion("one two one ")) == (0, 1, 0)
    assert await questions.spell(inquire(hosting), Completion("two")) == ((2, TokenSpelling("two", b"two")),)
    assert await questions.detokenize(inquire(hosting), (2,)) == ("two",)
    assert admission.questions["scripted"].places.running == 0
    assert not hosting.engines[0].running


async def test_a_question_that_the_model_cannot_answer_is_refused(house):
    questions, hosting, _ = house
    with pytest.raises(Unsupported, match="chat"):
        await questions.render(inquire(hosting), Chat(()))
    with pytest.raises(ContextTooLong):
        await questions.detokenize(inquire(hosting), (0,) * (MOST_IDS + 1))


async def test_a_question_costs_its_caller_what_it_reads(house):
    questions, hosting, _ = house
    poor = Quota(tokens_per_minute=10)
    await questions.count_tokens(inquire(hosting, quota=poor), Completion("x" * 64 * 9))
    with pytest.raises(TokensExceeded):
        await questions.count_tokens(inquire(hosting, quota=poor), Completion("x"))


async def test_vectors_cost_the_tokens_that_were_read_and_no_more_than_a_bound_is_taken_before(house, monkeypatch):
    questions, hosting, admission = house

    async def embed(_, request):
        assert 0 < request.timeout <= 1_000
        return Embeddings((b"",) * len(request.inputs), 3)

    monkeypatch.setattr(ScriptedEngine, "embed", embed)
    asked = EmbedRequest(id="", model="scripted", inputs=(Completion("one two"), Completion("x")))
    with pytest.raises(Unsupported, match="embedding"):
        await questions.embed(inquire(hosting), asked)
    inquiry = inquire(hosting, quota=Quota(tokens_per_minute=17))
    card = structs.replace(inquiry.target.card, capabilities=frozenset({Capability.EMBEDDING}))
    inquiry = inquiry._replace(target=inquiry.target._replace(card=card))
    for _ in range(3):  # 11 are taken, and 8 given back
        assert len((await questions.embed(inquiry, asked)).vectors) == 2
    with pytest.raises(TokensExceeded):
        await questions.embed(inquiry, asked)
    assert admission.questions["scripted"].places.running == 0


async def test_a_question_has_its_time_and_ends_with_the_service(house):
    questions, hosting, admission = house
    slow = Completion(play(prefill=60))
    with pytest.raises(DeadlineExceeded):
        await questions.count_tokens(inquire(hosting, seconds=0.01), slow)
    asked = [asyncio.create_task(questions.count_tokens(inquire(hosting), slow)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert admission.questions["scripted"].waiting == 1
    hosting.drain()
    for each in asked:
        with pytest.raises(Draining):
            await each
    assert admission.questions["scripted"].waiting == 0


async def test_scores_cost_the_tokens_of_each_pair_and_no_more_than_a_bound_is_taken_before(house, monkeypatch):
    questions, hosting, admission = house

    async def score(_, request):
        assert 0 < request.timeout <= 1_000
        return TextScores((b"",) * len(request.documents), 3)

    monkeypatch.setattr(ScriptedEngine, "score", score)
    asked = ScoreRequest(id="", model="scripted", documents=(Completion("one"), Completion("x")))
    pair = structs.replace(asked, queries=(Completion("two"),))
    for request, needed in ((asked, "classify"), (pair, "score")):
        with pytest.raises(Unsupported, match=needed):
            await questions.score(inquire(hosting), request)
    inquiry = inquire(hosting, quota=Quota(tokens_per_minute=22))
    card = structs.replace(inquiry.target.card, capabilities=frozenset({Capability.SCORE}))
    inquiry = inquiry._replace(target=inquiry.target._replace(card=card))
    for _ in range(3):  # 15 are taken, and 12 given back
        assert len((await questions.score(inquiry, pair)).rows) == 2
    with pytest.raises(TokensExceeded):
        await questions.score(inquiry, pair)
    assert admission.questions["scripted"].places.running == 0
