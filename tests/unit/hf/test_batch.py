"""A batch over a runner that draws from a script: no model, no thread."""

import logging
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine import Delta, EngineError, Finished, FinishReason, Started, Unavailable, Usage
from gateway_hf.batch import Batch
from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.drafter import Guessing
from gateway_hf.scheduling.scheduler import Scheduler
from tests.support.scripted_batch import (
    SIZE,
    ScriptedRunner,
    answer,
    count,
    events_of,
    hashed,
    make_generation,
    run_all,
    text_of,
    words,
)


@pytest.fixture
def runner():
    return ScriptedRunner()


@pytest.fixture
def blocks():
    return Blocks(100, SIZE)


@pytest.fixture
def scheduler(blocks):
    return Scheduler(2, 4, blocks)


@pytest.fixture
def batch(scheduler, runner):
    return Batch(scheduler, runner)


def _join(batch, *generations):
    for generation in generations:
        batch.join(generation)


def test_a_generation_is_started_then_deltas_then_finished(batch, runner, blocks):
    generation = make_generation(limit=3, prompt=9)
    _join(batch, generation)
    started, *deltas, finished = events_of(run_all(batch), generation)
    assert isinstance(started, Started)
    assert started.prompt_tokens == 9
    assert deltas == [Delta("[0]"), Delta("[1]"), Delta("[2]")]
    assert finished == Finished(FinishReason.LENGTH, Usage(9, 3))
    assert runner.joined == runner.forgotten == [generation.sequence]
    assert blocks.free == blocks.count


def test_nothing_is_said_before_the_prompt_is_read(batch):
    _join(batch, make_generation(prompt=9))
    assert list(batch.step()) == []
    assert list(batch.step()) == []
    assert isinstance(next(batch.step())[1], Started)


def test_seconds_in_the_line_and_of_the_prefill_are_told_apart(batch, monkeypatch):
    clock = iter([10.0, 17.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    generation = make_generation(limit=1)
    generation.arrived = 6.0
    _join(batch, generation)
    started = next(batch.step())[1]
    assert (started.queue_seconds, started.prefill_seconds) == (4.0, 7.0)


def test_what_was_found_in_the_cache_is_told_at_the_start_and_at_the_end(batch):
    first, second, salted = (make_generation(tokens=range(10), salt=salt) for salt in ("", "", "salt"))
    for generation, cached in ((first, 0), (second, 8), (salted, 0)):
        _join(batch, generation)
        started, *_, finished = events_of(run_all(batch), generation)
        assert started.cached_tokens == finished.usage.cached_tokens == cached


def test_an_answer_is_cached_for_the_prompt_that_goes_on_with_it(batch, blocks):
    _join(batch, make_generation(limit=10, tokens=range(50, 60)))
    run_all(batch)
    _join(batch, make_generation(tokens=[*range(50, 60), *range(9), 99]))
    run_all(batch)
    assert blocks.hits == 16


def test_an_outcome_that_is_an_error_ends_its_generation_alone(batch, runner, blocks, caplog):
    good, bad = make_generation(), make_generation(tokens=range(20, 30))
    runner.faults[bad.sequence] = ValueError("/secret/path")
    _join(batch, bad, good)
    letters = run_all(batch)
    assert text_of(letters, good) == "[0][1][2]"
    *said, error = events_of(letters, bad)
    assert [type(event) for event in said] == [Started, Delta]
    assert type(error) is EngineError
    assert "secret" not in error.message
    assert error.__cause__ is None
    (record,) = [record for record in caplog.records if record.name == "gateway_hf"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert bad.sequence in runner.forgotten
    again = make_generation(tokens=range(20, 30))
    _join(batch, again)
    run_all(batch)
    assert again.sequence.cached == 0, "what may be broken was used again"
    blocks.check()


def test_a_typed_error_is_passed_on_as_it_is(batch, runner):
    generation = make_generation()
    runner.faults[generation.sequence] = fault = EngineError("the numbers are gone")
    _join(batch, generation)
    assert events_of(run_all(batch), generation)[-1] is fault


def test_a_writer_that_breaks_ends_its_generation_alone(batch, monkeypatch, blocks):
    good, bad = make_generation(), make_generation()
    monkeypatch.setattr(bad.writer, "write", lambda _: 1 / 0)
    _join(batch, bad, good)
    letters = run_all(batch)
    assert text_of(letters, good) == "[0][1][2]"
    (error,) = events_of(letters, bad)
    assert type(error) is EngineError
    assert blocks.free == blocks.count


def test_the_finish_is_said_even_if_the_step_breaks_right_after(batch, runner, monkeypatch):
    generation = make_generation(limit=1)
    monkeypatch.setattr(runner, "forget", lambda _: 1 / 0)
    _join(batch, generation)
    letters = []
    with pytest.raises(ZeroDivisionError):
        letters.extend(batch.step())
    assert isinstance(letters[-1][1], Finished)


def test_an_answer_that_outgrows_the_cache_fails_with_a_reason(runner):
    blocks = Blocks(2, SIZE)
    batch = Batch(Scheduler(2, 8, blocks), runner)
    generation, beyond = make_generation(limit=100), make_generation(prompt=100)
    _join(batch, generation, beyond)
    letters = run_all(batch)
    for each in (generation, beyond):
        error = events_of(letters, each)[-1]
        assert type(error) is EngineError
        assert "cache is too small" in error.message
    assert blocks.free == 2


def test_a_place_that_is_left_goes_to_the_next_in_the_line(batch, scheduler):
    generations = [make_generation(limit=100) for _ in range(3)]
    _join(batch, *generations)
    list(batch.step())
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    batch.leave(generations[0])
    list(batch.step())
    assert (scheduler.running, scheduler.waiting) == (2, 0)
    assert events_of(batch.step(), generations[2])


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_leaving_at_any_phase_frees_everything_and_twice_is_harmless(batch, scheduler, runner, blocks, steps):
    generation = make_generation(limit=100, prompt=9)
    _join(batch, generation)
    for _ in range(steps):
        list(batch.step())
    batch.leave(generation)
    batch.leave(generation)
    assert (len(batch), scheduler.running, scheduler.waiting) == (0, 0, 0)
    assert generation.sequence in runner.forgotten
    assert blocks.free == blocks.count
    assert list(batch.step()) == []
    assert len(runner.steps) == steps, "the runner was called for nothing"


def test_failing_the_batch_ends_everyone(batch, scheduler, blocks):
    generations = [make_generation() for _ in range(3)]
    _join(batch, *generations)
    list(batch.step())
    letters = batch.fail("gone")
    assert [type(letter) for _, letter in letters] == [Unavailable] * 3
    assert {mailbox for mailbox, _ in letters} == {generation.mailbox for generation in generations}
    assert (len(batch), scheduler.running, scheduler.waiting) == (0, 0, 0)
    assert blocks.free == blocks.count


@pytest.fixture(autouse=True)
def cheap_rows(monkeypatch):
    """Have rows cost little, whatever steps without a model take."""
    monkeypatch.setattr(Scheduler, "price_of_guess", lambda *_: 0.05)


_LOOP = [1, 2, 3, 4, 5]


def _circle(tokens, _):
    """Draw what comes after the last token in a loop of five."""
    return tokens[-1] % 5 + 1


def _guessing(draw, answers=2, **kwargs):
    runner = ScriptedRunner(draw)
    return Batch(Scheduler(4, 40, Blocks(100, SIZE)), runner, Guessing(answers, 4), **kwargs), runner


def test_guesses_that_come_true_save_steps_and_change_nothing():
    batch, runner = _guessing(_circle)
    generation = make_generation(limit=31, tokens=_LOOP * 2)
    _join(batch, generation)
    assert text_of(run_all(batch), generation) == words((_LOOP * 7)[:31])
    assert len(runner.steps) <= 1 + 30 / 5 + 1


def test_no_guess_goes_beyond_the_limit():
    batch, runner = _guessing(_circle)
    generation = make_generation(limit=4, tokens=_LOOP * 2)
    _join(batch, generation)
    run_all(batch)
    assert [step[0][1] for step in runner.steps] == [10, 1 + 2]


def test_an_answer_that_ends_amid_its_guesses_ends_there():
    for terms in ({"stop": ("[3]",)}, {"eos_ids": frozenset({3})}):
        batch, _ = _guessing(_circle)
        generation = make_generation(limit=50, tokens=_LOOP * 2, **terms)
        _join(batch, generation)
        letters = run_all(batch)
        assert text_of(letters, generation) == "[1][2]"
        assert events_of(letters, generation)[-1].usage.completion_tokens == 3


def test_a_crowd_is_not_guessed_for():
    batch, runner = _guessing(_circle)
    _join(batch, *[make_generation(limit=20, tokens=_LOOP * 2) for _ in range(3)])
    run_all(batch)
    assert {tokens for step in runner.steps[1:] for _, tokens in step} == {1}


def test_a_guess_that_costs_more_than_it_brings_is_not_computed(monkeypatch):
    monkeypatch.setattr(Scheduler, "price_of_guess", lambda _, answers, *__: answers / 4)
    batch, runner = _guessing(_circle, answers=4)
    _join(batch, *[make_generation(limit=40, tokens=_LOOP * 2) for _ in range(4)])
    run_all(batch)
    assert {tokens for step in runner.steps[1:] for _, tokens in step} == {1}
    runner.steps.clear()
    _join(batch, make_generation(limit=40, tokens=_LOOP * 2))
    run_all(batch)
    assert {tokens for step in runner.steps[1:] for _, tokens in step} >= {2, 5}


def test_no_old_guess_is_left_when_a_crowd_comes():
    batch, runner = _guessing(_circle)
    _join(batch, make_generation(limit=50, tokens=_LOOP * 2))
    for _ in range(3):
        list(batch.step())
    assert runner.steps[-1][0][1] == 5
    _join(batch, *[make_generation(limit=50, tokens=[each]) for each in (1, 2)])
    list(batch.step())
    assert [tokens for _, tokens in runner.steps[-1]] == [1, 1, 1]


_requests = st.lists(
    st.fixed_dictionaries(
        {
            "tokens": st.lists(st.integers(0, 1), min_size=1, max_size=14),
            "limit": st.integers(1, 14),
            "priority": st.integers(0, 1),
            "salt": st.sampled_from(["", "salt"]),
        }
    ),
    min_size=1,
    max_size=12,
)
_draws = st.sampled_from([count, hashed, _circle, lambda tokens, prompt: hashed(tokens[-2:], prompt, 3)])


@settings(deadline=None)
@given(
    requests=_requests,
    draw=_draws,
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(7, 14)),
    answers=st.integers(0, 4),
    every=st.integers(0, 3),
)
def test_everyone_gets_the_text_that_it_gets_alone(requests, draw, shape, answers, every):
    places, budget, room = shape
    blocks = Blocks(room, SIZE)
    scheduler = Scheduler(places, budget, blocks)
    batch = Batch(scheduler, ScriptedRunner(draw), Guessing(answers, 5))
    generations, letters = [make_generation(**request) for request in requests], []
    for generation in generations:
        batch.join(generation)
        for _ in range(every):
            letters += batch.step()
            blocks.check()
    letters += run_all(batch)
    for generation, request in zip(generations, requests, strict=True):
        assert text_of(letters, generation) == words(answer(request["tokens"], request["limit"], draw))
    assert (scheduler.running, scheduler.waiting, blocks.free) == (0, 0, room)


def test_seconds_in_the_line_end_at_the_first_admission(monkeypatch):
    clock = iter(range(10, 1000))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    scheduler = Scheduler(2, 8, Blocks(6, SIZE))
    batch, generation = Batch(scheduler, ScriptedRunner()), make_generation(prompt=12)
    _join(batch, generation)
    assert list(batch.step()) == []
    scheduler._preempt()
    started = events_of(run_all(batch), generation)[0]
    assert started.queue_seconds == generation.admitted == 10


def test_that_property_sees_preemptions():
    blocks = Blocks(9, SIZE)
    scheduler = Scheduler(4, 12, blocks)
    batch = Batch(scheduler, ScriptedRunner(hashed))
    generations = [make_generation(limit=14, tokens=[index] * 5) for index in range(4)]
    _join(batch, *generations)
    letters = run_all(batch)
    assert scheduler.preemptions > 0
    for index, generation in enumerate(generations):
        assert text_of(letters, generation) == words(answer([index] * 5, 14, hashed))
        assert events_of(letters, generation)[-1].usage == Usage(5, 14)


@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_comings_goings_and_failures_leave_the_cache_empty(seed, caplog):
    caplog.set_level(logging.CRITICAL)
    random = Random(seed)  # noqa: S311 - it must be the same again
    blocks = Blocks(20, SIZE)
    scheduler, runner = Scheduler(4, 10, blocks), ScriptedRunner(hashed)
    batch, inside, mailboxes = Batch(scheduler, runner, Guessing(2, 4)), [], {}
    letters = []
    for _ in range(1000):
        move = random.choice(["submit", "submit", "cancel", "fail", "step", "step", "step"])
        if move == "submit" and len(inside) < 12:
            prompt = [random.randrange(2) for _ in range(random.randrange(1, 20))]
            generation = make_generation(limit=random.randrange(1, 20), tokens=prompt, priority=random.randrange(2))
            batch.join(generation)
            inside.append(generation)
            mailboxes[generation.mailbox] = generation
        elif move == "cancel" and inside:
            batch.leave(inside.pop(random.randrange(len(inside))))
        elif move == "fail" and inside:
            runner.faults[random.choice(inside).sequence] = ValueError("numbers")
        elif move == "step":
            letters += batch.step()
            blocks.check()
        inside = [generation for generation in inside if generation.sequence in batch._generations]
    for generation in inside:
        batch.leave(generation)
    assert (len(batch), scheduler.running, scheduler.waiting, scheduler.cached) == (0, 0, 0, 0)
    assert blocks.free == blocks.count
    blocks.check()
    # Whoever was neither cancelled nor told to fail has its right text.
    finished = [mailbox for mailbox, event in letters if isinstance(event, Finished)]
    assert len(set(finished)) == len(finished) > 0
    for mailbox in finished:
        sequence, terms = mailboxes[mailbox].sequence, mailboxes[mailbox].terms
        prompt = sequence.tokens[: sequence.prompt_tokens]
        assert text_of(letters, mailboxes[mailbox]) == words(answer(prompt, terms.limit, hashed))


def test_a_batch_of_what_stands_by_pauses_until_it_was_quiet(batch, monkeypatch):
    now = 100.0
    monkeypatch.setattr("gateway_hf.batch.time.monotonic", lambda: now)
    assert batch.pause is None
    standing, asked = make_generation(), make_generation()
    standing.quiet, standing.sequence.standby = 2.0, True
    _join(batch, standing)
    assert batch.pause == 0.0  # nothing was there before
    _join(batch, asked)
    assert batch.pause == 0.0
    batch.leave(asked)
    batch.leave(asked)
    assert batch.pause == 2.0
    now += 1.5
    assert batch.pause == 0.5
    now += 1.0
    assert batch.pause == 0.0
    assert text_of(run_all(batch), standing) == words([0, 1, 2])
    assert batch.pause is None
