"""A request that was there at two deaths of the process is not run again."""

from types import NoneType

import msgspec
import pytest

from gateway.engine import Completion, EngineError, EngineRestarted, Quarantined
from gateway.isolation.quarantine import AskedQuestion, Death, Quarantine, RunningCall
from tests.support.border import scripted


def strike(suspects, *requests, places=8):
    """Let the process die while it runs these."""
    suspects.runs = [RunningCall(request) for request in requests]
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


def test_a_call_that_a_silent_process_had_not_read_is_no_suspect():
    suspects, read, unread = Quarantine(), RunningCall(scripted(1), number=1), RunningCall(scripted(2), number=2)
    suspects.runs = [read, unread]
    suspects.blame(8, Death(is_hang=True, arrived=frozenset({1})))
    assert isinstance(read.verdict, EngineRestarted)
    assert unread.verdict is None
    assert [suspects.check(scripted(number)) for number in (1, 2)] == [True, False]


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
        RunningCall(scripted(1)),
        RunningCall(scripted(2), has_started=True),
        RunningCall(scripted(3)),
    ]
    suspects.blame(places=2)
    assert [suspects.check(scripted(number)) for number in (1, 2, 3)] == [True, True, False]


def test_who_is_on_trial_is_blamed_alone():
    suspects = Quarantine()
    suspects.runs = [
        RunningCall(scripted(1), has_started=True),
        RunningCall(scripted(2), on_trial=True),
        RunningCall(scripted(3)),
    ]
    suspects.blame(places=8)
    assert [suspects.check(scripted(number)) for number in (1, 2, 3)] == [False, True, False]


def question(text="x"):
    return AskedQuestion("count_tokens", ("m", Completion(text)))


def hang(suspects, *calls, stuck=None, places=8):
    """Let the process hang while it has these calls, by their numbers from 1 on; return their verdicts."""
    suspects.runs = [RunningCall(call, number=number) for number, call in enumerate(calls, 1)]
    suspects.blame(places, Death(is_hang=True, stuck=None if stuck is None else frozenset(stuck)))
    return [type(run.verdict) for run in suspects.runs]


def test_a_question_is_a_suspect_like_a_generation():
    suspects = Quarantine()
    strike(suspects, question(), question("y"))
    assert suspects.check(question())
    suspects.clear(question())
    assert not suspects.check(question())
    strike(suspects, question("y"))
    with pytest.raises(Quarantined):
        suspects.check(question("y"))


def test_a_call_that_was_computed_all_the_while_of_a_hang_is_condemned_alone():
    suspects = Quarantine()
    assert hang(suspects, scripted(1), question(), scripted(2), stuck={2}) == [NoneType, Quarantined, NoneType]
    with pytest.raises(Quarantined):
        suspects.check(question())
    assert not suspects.check(scripted(1))
    assert not suspects.check(scripted(2))


def test_a_poison_whose_client_has_left_is_condemned():
    suspects = Quarantine()
    left = RunningCall(question(), number=1)
    suspects.runs = [left]
    suspects.leave(left, is_given_up=True)
    suspects.runs = [RunningCall(scripted(2), number=2)]
    suspects.blame(8, Death(is_hang=True, stuck=frozenset({1})))
    assert suspects.runs[0].verdict is None
    assert not suspects.check(scripted(2))
    with pytest.raises(Quarantined):
        suspects.check(question())


def test_the_numbers_of_one_process_say_nothing_of_the_next():
    suspects = Quarantine()
    left = RunningCall(question(), number=1)
    suspects.runs = [left]
    suspects.leave(left, is_given_up=True)
    suspects.blame(8)
    assert hang(suspects, scripted(2), stuck={1}) == [Quarantined]
    assert not suspects.check(question())


def test_two_that_a_hang_may_be_due_to_are_not_repeated_and_not_condemned():
    suspects = Quarantine()
    assert hang(suspects, question(), scripted(1), stuck={1, 2}) == [EngineRestarted] * 2
    assert suspects.check(question())
    assert suspects.check(scripted(1))


@pytest.mark.parametrize(("stuck", "verdict"), [(None, EngineRestarted), ((), NoneType)])
def test_of_a_process_that_names_calls_a_question_which_it_did_not_name_has_waited(stuck, verdict):
    suspects = Quarantine()
    verdicts = hang(suspects, question(), scripted(1), scripted(2), stuck=stuck, places=1)
    assert verdicts == [verdict, EngineRestarted, NoneType]
    assert suspects.check(question()) is (stuck is None)


def test_a_second_hang_of_an_engine_that_names_no_call_condemns():
    suspects = Quarantine()
    assert hang(suspects, question()) == [EngineRestarted]
    assert hang(suspects, question()) == [Quarantined]


def test_what_no_process_ever_gets_has_a_mark_too():
    suspects = Quarantine()
    strike(suspects, AskedQuestion("render", (object, 2**80)))
    assert suspects.check(AskedQuestion("render", (object, 2**80)))
