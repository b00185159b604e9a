"""Prompts that begin alike meet the same replica, unless it has too much to do."""

from gateway.engine import Completion
from gateway_ray.affinity import AnswerLedger, affinity, pick

NAMES = [f"replica-{number}" for number in range(8)]
KEYS = [affinity(Completion(f"prompt {number}"), "") for number in range(400)]


def idle(*names):
    return dict.fromkeys(names, 0)


def test_a_key_has_one_favourite_and_keys_spread_over_all():
    favourites = [pick(key, idle(*NAMES), 8) for key in KEYS]
    assert favourites == [pick(key, idle(*reversed(NAMES)), 8) for key in KEYS]
    assert min(favourites.count(name) for name in NAMES) > len(KEYS) / len(NAMES) / 2


def test_a_replica_that_goes_moves_its_own_keys_only():
    before = [pick(key, idle(*NAMES), 8) for key in KEYS]
    after = [pick(key, idle(*NAMES[1:]), 8) for key in KEYS]
    assert all(was == now for was, now in zip(before, after, strict=True) if was != NAMES[0])
    assert NAMES[0] not in after


def test_callers_are_kept_apart():
    assert affinity(Completion("a"), "one") != affinity(Completion("a"), "other")


def test_a_favourite_that_is_full_or_twice_as_busy_gives_way_to_the_idlest():
    favourite = pick(KEYS[0], idle("a", "b", "c"), 8)
    idlest, other = {"a", "b", "c"} - {favourite}
    loads = {favourite: 4, idlest: 1, other: 2}
    assert pick(KEYS[0], loads, 8) == favourite
    assert pick(KEYS[0], loads, 4) == idlest, "it is full"
    assert pick(KEYS[0], loads | {favourite: 5}, 8) == idlest, "it is twice as busy"
    assert pick(KEYS[0], loads | {favourite: 5}, 0) == idlest


def test_a_favourite_that_is_full_is_taken_where_all_are():
    favourite = pick(KEYS[0], idle("a", "b"), 8)
    assert pick(KEYS[0], {"a": 8, "b": 8}, 8) == favourite


def test_a_burst_of_one_prompt_fills_every_place_before_any_replica_has_more():
    loads = idle("a", "b")
    for _ in range(16):
        loads[pick(KEYS[0], loads, 8)] += 1
    assert loads == {"a": 8, "b": 8}


def test_an_answer_counts_for_its_replica_until_it_ends():
    ledger = AnswerLedger()
    with ledger.answer() as first, ledger.answer() as second:
        assert ledger.loads("ab") == {"a": 0, "b": 0}
        ledger.give(first, "a")
        ledger.give(second, "a")
        assert ledger.loads("ab") == {"a": 2, "b": 0}
        ledger.give(second, "b")
        assert ledger.loads("ab") == {"a": 1, "b": 1}, "it was refused there, and went elsewhere"
    ledger.give(first, "a")
    ledger.give(0, "a")
    assert ledger.loads("ab") == {"a": 0, "b": 0}
