"""A step reads as much of prompts as the answers beside it can wait for, by what steps took."""

import pytest

from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.pace import StepPace
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.scheduling.sequence import Sequence


def taught(most=128, alone=0.02, token=0.001, decodes=4):
    """Make a pace that has seen both kinds of step."""
    pace = StepPace(most)
    pace.learn(decodes, 0, alone)
    pace.learn(decodes, 50, alone + 50 * token)
    return pace


def test_all_is_read_where_nothing_is_known_or_nothing_decodes():
    assert StepPace(128).room(4) == 124
    assert taught().room(0) == 128
    pace = StepPace(128)
    pace.learn(4, 0, 0.02)
    assert pace.room(4) == 124


def test_a_step_with_prompts_takes_three_times_one_without():
    assert taught(alone=0.02, token=0.001).room(4) == 40
    assert taught(alone=0.05, token=0.001).room(4) == 100


def test_what_is_fast_anyway_is_not_made_faster():
    assert taught(alone=0.002, token=0.001).room(4) == 38


@pytest.mark.parametrize(
    ("prompts", "waited"),
    [((), 0), ((128, 100, 100), 0), ((128, 100, 100, 150), 0), ((128, 100, 100, 100), 428), ((512,) * 16, 8_192)],
)
def test_answers_wait_for_as_many_prompts_as_they_are(prompts, waited):
    pace = taught(most=512)
    pace.learn(0, 128, 0.01)
    pace.learn(0, 256, 0.01)
    assert pace.waited(4, prompts) == waited
    assert pace.room(4, waited) == (min(waited, 508) if waited else 68)


def test_answers_do_not_wait_for_all_of_long_prompts():
    assert taught(most=512).waited(1, (10_000, 100)) == 128
    assert taught(most=512).waited(1, (10_000, 10_000)) == 0


def test_what_stands_behind_a_long_prompt_makes_no_room_for_it():
    pace = taught(most=512)
    pace.learn(0, 128, 0.01)
    assert pace.waited(4, (100, 100, 10_000, *(100,) * 8)) == 200


def test_full_steps_grow_while_they_are_short():
    pace = StepPace(512)
    budgets = []
    for _ in range(5):
        pace.learn(4, pace.budget - 4, 0.05)
        budgets.append(pace.budget)
    assert budgets == [256, 512, 512, 512, 512]
    assert pace.room(0) == 512


@pytest.mark.parametrize(("seconds", "budget"), [(0.2, 512), (0.4, 256), (2.0, 128)])
def test_a_full_step_that_was_long_is_followed_by_shorter_ones(seconds, budget):
    pace = StepPace(512)
    for _ in range(5):
        pace.learn(0, pace.budget, 0.05)
    pace.learn(0, 512, seconds)
    assert pace.budget == budget


def test_a_long_step_shortens_the_next_though_it_was_not_full():
    pace = StepPace(512)
    for _ in range(3):
        pace.learn(0, pace.budget, 0.0)
    pace.learn(4, 396, 0.4)
    assert pace.budget == 200


def test_steps_that_are_not_full_say_nothing_of_the_budget():
    pace = StepPace(512)
    pace.learn(4, 100, 0.01)
    pace.learn(200, 0, 0.01)
    assert pace.budget == 128


@pytest.mark.parametrize(("most", "places", "budget"), [(16, 4, 16), (512, 4, 128), (512, 200, 201)])
def test_each_place_has_a_token_of_any_step(most, places, budget):
    pace = StepPace(most, places)
    assert pace.budget == pace.sure == budget
    pace.learn(0, budget, 100.0)
    assert pace.budget == budget


def test_prompts_go_on_and_the_budget_holds():
    assert taught(token=1.0).room(4) == 16
    assert taught(token=1e-6).room(4) == 124
    assert taught(most=9, token=1.0).room(4) == 5


def test_a_prompt_read_alone_says_what_its_tokens_take():
    pace = StepPace(128)
    pace.learn(0, 100, 0.1)
    pace.learn(4, 0, 0.02)
    assert pace.room(4) == 40


def test_a_few_forced_tokens_say_nothing_of_prompts():
    pace = taught()
    before = pace.room(4)
    pace.learn(4, 2, 1.0)
    assert pace.room(4) == before


@pytest.mark.parametrize(("decodes", "room"), [(5, 40), (32, 16)])
def test_what_is_known_of_about_as_many_answers_counts(decodes, room):
    pace = taught(alone=0.02, token=0.001)
    pace.learn(32, 0, 0.001)
    pace.learn(32, 0, 0.001)
    assert pace.room(decodes) == (room if decodes == 5 else 39)


def test_it_follows_a_machine_that_slows_down():
    pace = taught(token=0.001)
    for _ in range(30):
        pace.learn(4, 30, 0.02 + 30 * 0.004)
    assert pace.room(4) == pytest.approx(10, abs=6)
    assert pace.room(4) == 16


def test_the_scheduler_reads_less_of_a_prompt_once_it_knows_that_answers_wait():
    scheduler = Scheduler(4, 128, Blocks(1_000, 4))
    answer, prompt = Sequence([1, 2]), Sequence(list(range(1_000)))
    scheduler.add(answer)
    scheduler.admit()
    scheduler.plan()
    scheduler.took(0.02)
    answer.computed = 2
    answer.tokens.append(3)
    assert [each.tokens for each in scheduler.plan()] == [1]
    scheduler.took(0.02)
    answer.computed = 3
    answer.tokens.append(4)
    scheduler.add(prompt)
    scheduler.admit()
    first = scheduler.plan()
    assert [each.tokens for each in first] == [1, 127]
    scheduler.took(0.02 + 0.127)
    prompt.computed += 127
    answer.computed = 4
    answer.tokens.append(5)
    assert [each.tokens for each in scheduler.plan()] == [1, 40]
    scheduler.add(Sequence(list(range(2_000, 2_150))))
    scheduler.admit()
    # One has 873 tokens left, of which a step could read a seventh, the other 150; together they are nearly one.
    assert [each.tokens for each in scheduler.plan()] == [1, 40]
