"""Words of Responses that change what an answer tells or reads, by OpenAI's SDK against the real service."""

import openai
import pytest

from tests.support.observe import play
from tests.support.service import Service

SCORES = ["message.output_text.logprobs"]
# The text's tokens and their log-probabilities, as the scripted engine tells them.
TEXTS = ["Once ", "upon ", "a ", "time."]
SCORED = {"model": "scripted", "input": play(texts=TEXTS)}


@pytest.fixture(scope="module")
def house():
    """An echo, and an engine that follows scripts; a reply holds a hundred log-probabilities."""
    with Service(
        LLM_GATEWAY__ENGINES__ACTOR__PLUGIN="scripted", LLM_GATEWAY__SERVER__MAX_LOGPROBS="100", LOG_LEVEL="DEBUG"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def responses(house):
    with openai.OpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0) as made:
        yield made.responses


def refused(ask, **fields):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(**fields)
    return raised.value.param, raised.value.code


def said(scores):
    return [(score.token, score.logprob, len(score.top_logprobs)) for score in scores]


@pytest.mark.parametrize(
    ("asked", "others"),
    [({"include": SCORES}, 0), ({"include": SCORES, "top_logprobs": 2}, 2), ({"top_logprobs": 1}, 1)],
)
def test_the_tokens_of_a_text_are_told_with_their_scores(responses, asked, others):
    whole = responses.create(**SCORED, **asked)
    scores = whole.output[0].content[0].logprobs
    assert said(scores) == [(text, -0.5, others) for text in TEXTS]
    assert bytes(byte for score in scores for byte in score.bytes).decode() == whole.output_text
    assert whole.top_logprobs == asked.get("top_logprobs", 0)
    events = list(responses.create(**SCORED, **asked, stream=True))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [said(event.logprobs) for event in deltas] == [[score] for score in said(scores)]
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert said(done.logprobs) == said(scores)
    final = events[-1].response
    assert final.output[0].content[0].logprobs == scores
    for made in (whole, final):
        assert responses.retrieve(made.id).model_dump() == made.model_dump()


def test_scores_are_told_of_an_answer_in_the_background_and_when_it_is_streamed_again(responses):
    told = list(responses.create(**SCORED, include=SCORES, background=True, stream=True))
    again = list(responses.retrieve(told[0].response.id, stream=True))
    assert [event.model_dump() for event in again] == [event.model_dump() for event in told]
    deltas = [event for event in told if event.type == "response.output_text.delta"]
    assert [score for event in deltas for score in said(event.logprobs)] == [(text, -0.5, 0) for text in TEXTS]


def test_scores_that_were_not_asked_for_are_not_told(responses):
    for asked in ({}, {"top_logprobs": 0}, {"include": []}):
        assert responses.create(**SCORED, **asked).output[0].content[0].logprobs == []


def test_scores_are_refused_by_the_word_that_asks_for_them(responses):
    """The echo draws no tokens, so it scores none."""
    asked = {"model": "echo", "input": "one"}
    assert refused(responses.create, **asked, include=SCORES) == ("include", "unsupported_parameter")
    assert refused(responses.create, **asked, top_logprobs=2) == ("top_logprobs", "unsupported_parameter")
    assert refused(responses.create, **SCORED, top_logprobs=21) == ("top_logprobs", "invalid_value")
    many = SCORED | {"top_logprobs": 9, "max_output_tokens": 11}
    for is_streamed in (False, True):
        assert refused(responses.create, **many, stream=is_streamed) == ("top_logprobs", "invalid_value")


TURNS = [
    {"role": role, "content": f"{word} " * 40} for word in ("one", "two", "three") for role in ("user", "assistant")
]


@pytest.fixture(scope="module")
def narrow():
    """An engine that reads a hundred words, and one behind it on a route that reads three hundred."""
    engines = {f"LLM_GATEWAY__ENGINES__{name}__PLUGIN": "scripted" for name in ("SMALL", "LARGE")}
    windows = {"SMALL": "100", "LARGE": "300"}
    engines |= {f"LLM_GATEWAY__ENGINES__{name}__SETTINGS__CONTEXT_WINDOW": size for name, size in windows.items()}
    engines |= {f"LLM_GATEWAY__ENGINES__{name}__SETTINGS__MODEL": name.lower() for name in windows}
    with (
        Service(LLM_GATEWAY__ROUTES__BOTH='["small", "large"]', LOG_LEVEL="DEBUG", **engines) as running,
        openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as made,
    ):
        yield running, made


def test_what_is_too_long_is_answered_without_its_oldest_parts(narrow):
    service, client = narrow
    ask = client.responses.create
    asked = {"model": "small", "instructions": "Be brief.", "input": [*TURNS, {"role": "user", "content": "four"}]}
    assert refused(ask, **asked) == ("input", "context_length_exceeded")
    whole = ask(**asked, truncation="auto")
    assert (whole.truncation, whole.status) == ("auto", "completed")
    assert whole.usage.input_tokens == 2 + 80 + 1  # the instructions, the last turn but one, and the question
    final = list(ask(**asked, truncation="auto", stream=True))[-1].response
    assert (final.truncation, final.usage) == ("auto", whole.usage)
    stored = list(client.responses.input_items.list(whole.id))
    assert len(stored) == 7  # what was asked is stored whole
    assert ask(**asked | {"input": "four"}, truncation="auto").usage.input_tokens == 3
    assert service.metric("llm_gateway_queue_depth") == 0


@pytest.mark.parametrize("is_stored_as", ["previous_response_id", "conversation"])
def test_what_was_said_before_is_left_out_first(narrow, is_stored_as):
    _, client = narrow
    ask = client.responses.create
    if is_stored_as == "conversation":
        origin = client.conversations.create(items=TURNS).id
    else:
        origin = ask(model="large", input=[*TURNS[:5]]).id
    asked = {"model": "small", "input": "five", is_stored_as: origin}
    assert refused(ask, **asked)[1] == "context_length_exceeded"
    answer = ask(**asked, truncation="auto")
    assert (answer.status, answer.truncation) == ("completed", "auto")
    assert answer.usage.input_tokens in (81, 45)  # the third turn, as it was given or answered, and the question


def test_what_cannot_be_left_out_is_refused(narrow):
    ask = narrow[1].responses.create
    long = "word " * 101
    for asked in ({"input": long}, {"input": "one", "instructions": long}):
        assert refused(ask, model="small", truncation="auto", **asked) == ("input", "context_length_exceeded")


def test_an_engine_with_more_room_comes_before_leaving_out(narrow):
    ask = narrow[1].responses.create
    answer = ask(model="both", input=[*TURNS, {"role": "user", "content": "four"}], truncation="auto")
    assert answer.usage.input_tokens == 241
    longer = [*TURNS, *TURNS, {"role": "user", "content": "four"}]
    assert ask(model="both", input=longer, truncation="auto").usage.input_tokens == 241
