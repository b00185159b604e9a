"""A request that was there at two deaths of the process is not run again."""

import msgspec
import pytest

from gateway.engine import EngineError
from gateway.isolation.quarantine import Quarantine, RunningRequest
from tests.support.border import scripted


def strike(suspects, *requests, places=8):
    """Let the process die while it runs these."""
    suspects.runs = [RunningRequest(request) for request in requests]
    suspects.blame(places)


def test_nobody_is_suspected_at_first():
    assert not Quarantine().check(scripted(1))


def test_one_death_makes_a_suspect_and_two_a_refusal():
    suspects = Quarantine()
    strike(suspects, scripted(1))
    assert suspects.check(scripted(1))
    strike(suspects, scripted(1))
    with pytest.raises(EngineError, match="ended twice"):
        suspects.check(scripted(1))


def test_the_same_prompt_under_another_id_is_the_same_suspect():
    suspects = Quarantine()
    strike(suspects, scripted(1))
    assert suspects.check(msgspec.structs.replace(scripted(1), id="other", timeout=3.0, salt="s", trace="t"))
    assert not suspects.check(scripted(2))


def test_equal_requests_at_one_death_count_once():
    suspects = Quarantine()
    strike(suspects, scripted(1), scripted(1))
    assert suspects.check(scripted(1))


def test_an_answer_to_the_end_clears():
    suspects = Quarantine()
    strike(suspects, scripted(1))
    suspects.clear(scripted(1))
    assert not suspects.check(scripted(1))


def test_a_refusal_ends_with_its_time():
    now = 0.0
    suspects = Quarantine(seconds=600.0, clock=lambda: now)
    strike(suspects, scripted(1))
    strike(suspects, scripted(1))
    now = 600.0
    assert not suspects.check(scripted(1))


def test_a_strike_after_its_time_is_a_first_one_again():
    now = 0.0
    suspects = Quarantine(seconds=600.0, clock=lambda: now)
    strike(suspects, scripted(1))
    now = 601.0
    strike(suspects, scripted(1))
    assert suspects.check(scripted(1))


def test_the_oldest_is_forgotten_when_there_are_too_many():
    suspects = Quarantine(most=2)
    for number in range(3):
        strike(suspects, scripted(number))
    assert [suspects.check(scripted(number)) for number in range(3)] == [False, True, True]


def test_who_waited_for_a_place_is_not_blamed():
    suspects = Quarantine()
    suspects.runs = [
        RunningRequest(scripted(1)),
        RunningRequest(scripted(2), has_started=True),
        RunningRequest(scripted(3)),
    ]
    suspects.blame(places=2)
    assert [suspects.check(scripted(number)) for number in (1, 2, 3)] == [True, True, False]


def test_who_is_on_trial_is_blamed_alone():
    suspects = Quarantine()
    suspects.runs = [
        RunningRequest(scripted(1), has_started=True),
        RunningRequest(scripted(2), on_trial=True),
        RunningRequest(scripted(3)),
    ]
    suspects.blame(places=8)
    assert [suspects.check(scripted(number)) for number in (1, 2, 3)] == [False, True, False]
