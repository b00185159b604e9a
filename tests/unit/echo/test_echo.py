"""The echo engine says the prompt again, and nothing else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import (
    Chat,
    ContextTooLong,
    Delta,
    FinishReason,
    Message,
    Text,
    Tokens,
    Unsupported,
    collect,
    needs,
)
from gateway_echo import EchoEngine, Settings
from tests.support.asking import request

USUAL = Settings()


async def say(prompt, settings=USUAL, **sampling):
    return await collect(EchoEngine(settings).generate(request(prompt, **sampling)))


@given(st.text(max_size=60))
async def test_any_text_comes_back_as_it_is(text):
    answer = await say(text)
    assert answer.text == text
    assert answer.finished.reason in {FinishReason.STOP, FinishReason.LENGTH}


async def test_a_word_with_the_space_behind_it_is_a_token():
    events = [event async for event in EchoEngine(USUAL).generate(request("one  two\nthree"))]
    assert events[1:-1] == [Delta("one  "), Delta("two\n"), Delta("three")]


async def test_a_chat_is_answered_with_its_last_message():
    turns = (Message("system", (Text("be brief"),)), Message("user", (Text("hello you"),)))
    answer = await say(Chat(turns))
    assert (answer.text, answer.started.prompt_tokens) == ("hello you", 4)


async def test_an_answer_that_ends_by_itself_stopped():
    answer = await say("one two", max_tokens=5)
    assert (answer.finished.reason, answer.finished.usage.completion_tokens) == (FinishReason.STOP, 2)


async def test_an_ignored_end_is_followed_by_the_beginning():
    assert (await say("one two ", max_tokens=5, ignore_eos=True)).text == "one two one two one "


async def test_min_tokens_begins_again_until_they_are_said():
    answer = await say("one two ", max_tokens=9, min_tokens=3, stop=("two",))
    assert (answer.text, answer.finished.stop) == ("one two one ", None)


async def test_an_empty_prompt_gets_an_empty_answer():
    answer = await say("", ignore_eos=True, min_tokens=3)
    assert (answer.text, answer.finished.reason) == ("", FinishReason.STOP)


async def test_text_held_back_costs_no_token():
    events = [event async for event in EchoEngine(USUAL).generate(request("one two", stop=("two three",)))]
    assert events[-2] == Delta("two", tokens=0)


@pytest.mark.parametrize("sampling", [{}, {"max_tokens": 1}, {"max_length": 4}])
async def test_a_prompt_that_fills_the_context_is_refused_with_numbers(sampling):
    with pytest.raises(ContextTooLong, match="the prompt has 3 tokens"):
        await say("one two three", Settings(context_window=3), **sampling)


async def test_token_ids_are_refused():
    with pytest.raises(Unsupported, match="token ids"):
        await say(Tokens((1, 2)))


def test_the_card_lists_whatever_it_can_be_asked_for_without_effect():
    card = EchoEngine(USUAL).models()[0]
    assert needs(request("hi", temperature=0.7, top_p=0.9, top_k=5, min_p=0.1, seed=1)) <= card.capabilities


def test_a_path_gives_a_name_without_slash_and_an_alias():
    card = EchoEngine(Settings(model="house/echo")).models()[0]
    assert (card.name, card.aliases) == ("echo", ("house/echo",))


@pytest.mark.parametrize("table", [{"delay": -1}, {"places": 0}, {"context_window": 0}, {"delya": 1}])
def test_a_wrong_setting_is_refused(table):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Settings)
