"""A batch over a runner that draws from a script: no model, no thread."""

import logging

import pytest

from gateway.engine import Delta, EngineError, Finished, FinishReason, Started, Unavailable
from gateway_hf.batch import Batch
from gateway_hf.scheduler import Scheduler
from tests.support.scripted_batch import ScriptedRunner, make_generation


@pytest.fixture
def runner():
    return ScriptedRunner()


@pytest.fixture
def scheduler():
    return Scheduler(places=2, chunk=4)


@pytest.fixture
def batch(scheduler, runner):
    return Batch(scheduler, runner)


def _step(batch):
    return [letter for letters in batch.step() for letter in letters]


def _run(batch):
    letters = []
    for _ in range(50):
        letters += _step(batch)
    return letters


def _of(letters, generation):
    return [event for mailbox, event in letters if mailbox is generation.mailbox]


def test_a_generation_is_started_then_deltas_then_finished(batch, runner):
    generation = make_generation(limit=3, prompt=9)
    batch.join(generation)
    started, *deltas, finished = _of(_run(batch), generation)
    assert isinstance(started, Started)
    assert started.prompt_tokens == 9
    assert deltas == [Delta("[0]"), Delta("[1]"), Delta("[2]")]
    assert finished.reason is FinishReason.LENGTH
    assert len(batch) == 0
    assert runner.forgotten == [generation.sequence]


def test_nothing_is_said_before_the_prompt_is_read(batch):
    generation = make_generation(prompt=9)
    batch.join(generation)
    assert _step(batch) == []
    assert _step(batch) == []
    assert isinstance(_step(batch)[0][1], Started)


def test_seconds_in_the_line_and_of_the_prefill_are_told_apart(batch, monkeypatch):
    clock = iter([10.0, 17.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    generation = make_generation(limit=1)
    generation.arrived = 6.0
    batch.join(generation)
    started = _step(batch)[0][1]
    assert (started.queue_seconds, started.prefill_seconds) == (4.0, 7.0)


def test_a_generation_that_fails_ends_alone(batch, runner, caplog):
    good, bad = make_generation(), make_generation()
    runner.faults[bad.sequence] = ValueError("/secret/path")
    batch.join(bad)
    batch.join(good)
    letters = _run(batch)
    *_, last = _of(letters, good)
    assert isinstance(last, Finished)
    *said, error = _of(letters, bad)
    assert [type(event) for event in said] == [Started, Delta]
    assert type(error) is EngineError
    assert "secret" not in error.message
    assert error.__cause__ is None
    (record,) = [record for record in caplog.records if record.name == "gateway_hf"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert bad.sequence in runner.forgotten
    assert len(batch) == 0


def test_a_typed_error_is_passed_on_as_it_is(batch, runner):
    generation = make_generation()
    runner.faults[generation.sequence] = fault = EngineError("the numbers are gone")
    batch.join(generation)
    assert _of(_run(batch), generation)[-1] is fault


def test_a_place_that_is_left_goes_to_the_next_in_the_line(batch, scheduler):
    generations = [make_generation(limit=100) for _ in range(3)]
    for generation in generations:
        batch.join(generation)
    _step(batch)
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    batch.leave(generations[0])
    assert _of(_step(batch), generations[2])
    assert (scheduler.running, scheduler.waiting) == (2, 0)


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_leaving_at_any_phase_frees_everything_and_twice_is_harmless(batch, scheduler, runner, steps):
    generation = make_generation(limit=100, prompt=9)
    batch.join(generation)
    for _ in range(steps):
        _step(batch)
    batch.leave(generation)
    batch.leave(generation)
    assert (len(batch), scheduler.running, scheduler.waiting) == (0, 0, 0)
    assert generation.sequence in runner.forgotten
    assert _step(batch) == []


def test_one_may_leave_while_a_step_runs(batch):
    first, second = make_generation(), make_generation()
    batch.join(first)
    batch.join(second)
    step = batch.step()
    assert next(step)
    batch.leave(second)
    assert list(step) == []


def test_failing_the_batch_ends_everyone(batch, scheduler):
    generations = [make_generation() for _ in range(3)]
    for generation in generations:
        batch.join(generation)
    _step(batch)
    letters = batch.fail("gone")
    assert [type(letter) for _, letter in letters] == [Unavailable] * 3
    assert {mailbox for mailbox, _ in letters} == {generation.mailbox for generation in generations}
    assert (len(batch), scheduler.running, scheduler.waiting) == (0, 0, 0)
