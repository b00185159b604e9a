"""What a row more costs is learned from steps of several sizes, and thought to be a seventh of the first until then."""

from random import Random

import pytest

from gateway_hf.scheduling.row_cost import RowCost


def taught(base, row, sizes, times=200, busy=0.0):
    cost, random = RowCost(), Random(0)  # noqa: S311 - sizes of steps
    for _ in range(times):
        rows = random.choice(sizes)
        cost.learn(rows, (base + row * rows) * (1 + 5 * (random.random() < busy)))
    return cost


def test_nothing_known_is_a_step_as_long_as_six_rows():
    assert [RowCost().price(answers) for answers in (1, 2, 6, 18)] == pytest.approx([1 / 7, 1 / 4, 1 / 2, 3 / 4])


@pytest.mark.parametrize(("base", "row"), [(0.013, 0.0024), (0.01, 0.0001), (0.008, 0.002)])
def test_steps_of_several_sizes_say_what_a_row_costs(base, row):
    cost = taught(base, row, [1, 2, 5, 10, 20])
    for answers in (1, 4, 16):
        assert cost.price(answers) == pytest.approx(row * answers / (base + row * answers), rel=0.2, abs=0.02)


def test_steps_of_one_size_say_nothing_of_rows():
    assert taught(0.03, 0.0, [8]).price(8) == pytest.approx(RowCost().price(8))


def test_a_price_is_a_part_of_a_token():
    random = Random(1)  # noqa: S311 - sizes of steps
    for _ in range(50):
        cost = RowCost()
        for _ in range(random.randrange(30)):
            cost.learn(random.randrange(1, 40), random.random())
        assert all(0 <= cost.price(answers) <= 1 + 1e-9 for answers in range(1, 40))
    assert taught(0.0, 0.0, [1, 2]).price(4) == 0


def test_steps_on_a_busy_machine_say_about_the_same():
    quiet, busy = taught(0.013, 0.0024, [1, 2, 5, 10, 20]), taught(0.013, 0.0024, [1, 2, 5, 10, 20], busy=0.2)
    for answers in (1, 4, 16):
        assert 0.5 < busy.price(answers) / quiet.price(answers) < 2


def test_a_machine_that_is_busy_while_many_decode_leaves_guesses_to_the_few():
    cost = taught(0.013, 0.0024, [1, 2], times=50)
    for _ in range(300):
        cost.learn(16, 0.150)
    assert cost.price(1) < 0.35


def test_what_was_seen_once_is_not_forgotten_in_a_crowd_of_one_size():
    cost = taught(0.01, 0.0001, [1, 2, 5, 10])
    before = cost.price(8)
    for _ in range(1000):
        cost.learn(8, 0.0108)
    assert cost.price(8) == pytest.approx(before, rel=0.3)


def test_it_follows_a_machine_that_changes():
    cost = taught(0.02, 0.0001, [1, 5, 9])
    before = cost.price(4)
    for at in range(1000):
        rows = (1, 5, 9)[at % 3]
        cost.learn(rows, 0.005 + 0.005 * rows)
    assert before < 0.1
    assert cost.price(4) == pytest.approx(0.6, rel=0.2)


def test_what_a_guess_takes_to_make_is_part_of_its_price():
    cost = taught(0.01, 0.001, [1, 2, 5, 10])
    assert cost.price(2, 0.003) == pytest.approx(cost.price(2) + 2 * 0.003 / 0.012, rel=0.1)
