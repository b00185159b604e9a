"""The queue is fair by caller, keeps the order within one, holds no more than it may, and loses nobody."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.admission.caller_counts import CallerCounts
from gateway.admission.fair_queue import FairQueue


@dataclass(eq=False)
class Waiter:
    caller: str
    cost: int = 1
    priority: int = 0


def served(queue):
    while len(queue):
        yield queue.pop()


def test_one_caller_is_served_in_the_order_it_came():
    queue = FairQueue(9)
    waiters = [Waiter("a", cost) for cost in (5, 1, 3)]
    for waiter in waiters:
        assert queue.push(waiter) is None
    assert list(served(queue)) == waiters


def test_higher_priority_goes_first():
    queue = FairQueue(9)
    late, soon, usual = Waiter("a", priority=-1), Waiter("b", priority=5), Waiter("a")
    for waiter in (late, usual, soon):
        queue.push(waiter)
    assert list(served(queue)) == [soon, usual, late]


def test_a_newcomer_waits_for_one_request_of_a_caller_with_a_hundred():
    queue = FairQueue(200)
    for _ in range(100):
        queue.push(Waiter("noisy", 50))
    queue.pop()
    quiet = Waiter("quiet", 50)
    queue.push(quiet)
    assert queue.order().index(quiet) <= 1


def test_who_was_served_cheaply_is_served_more_often():
    queue = FairQueue(300)
    for _ in range(100):
        queue.push(Waiter("short", 10))
        queue.push(Waiter("long", 100))
    first = Counter(queue.pop().caller for _ in range(55))
    assert first["short"] == pytest.approx(50, abs=2)
    assert first["long"] == pytest.approx(5, abs=2)


def test_who_comes_back_is_still_charged_for_what_it_had():
    queue = FairQueue(99)
    queue.push(Waiter("large", 100))
    for _ in range(20):
        queue.push(Waiter("small", 10))
    while queue.pop().caller != "large":
        pass
    again = Waiter("large", 100)
    queue.push(again)
    assert queue.order().index(again) >= 8


def test_who_gives_up_is_charged_nothing():
    queue = FairQueue(300)
    for _ in range(50):
        queue.push(Waiter("patient", 10))
        queue.push(Waiter("restless", 10))
    for waiter in queue.order():
        if waiter.caller == "restless":
            queue.remove(waiter)
    again = Waiter("restless", 10)
    queue.push(again)
    assert queue.order().index(again) <= 1


def test_a_full_line_turns_the_newcomer_away_where_all_are_equal():
    queue = FairQueue(2)
    assert queue.push(Waiter("a")) is None
    assert queue.push(Waiter("b")) is None
    for caller in "abc":
        newcomer = Waiter(caller)
        assert queue.push(newcomer) is newcomer
    assert len(queue) == 2


def test_in_a_full_line_the_largest_caller_gives_up_its_last():
    queue = FairQueue(3)
    first, second, third = Waiter("a"), Waiter("a"), Waiter("a")
    for waiter in (first, second, third):
        queue.push(waiter)
    newcomer = Waiter("b")
    assert queue.push(newcomer) is third
    assert set(served(queue)) == {first, second, newcomer}


def test_a_callers_own_higher_priority_takes_the_place_of_its_lower():
    queue = FairQueue(2)
    low, usual = Waiter("a", priority=-1), Waiter("a")
    queue.push(low)
    queue.push(usual)
    high = Waiter("a", priority=1)
    assert queue.push(high) is low
    assert queue.push(low) is low


def test_a_priority_of_another_does_not_push_out_an_equal():
    queue = FairQueue(1)
    queue.push(Waiter("a"))
    eager = Waiter("b", priority=9)
    assert queue.push(eager) is eager


def test_the_estimate_for_a_newcomer_is_its_share_and_no_more_than_all():
    queue = FairQueue(99)
    for _ in range(10):
        queue.push(Waiter("a", 100))
        queue.push(Waiter("b", 10))
    assert queue.ahead(Waiter("c", 20)) == 2 * 20
    assert queue.ahead(Waiter("b", 10)) == 100 + 110
    assert queue.ahead(Waiter("a", 100)) == 1_100
    assert queue.ahead(Waiter("c", 20, priority=-1)) == 1_100
    assert queue.ahead(Waiter("c", 20, priority=1)) == 0


def test_callers_that_are_gone_are_forgotten():
    queue = FairQueue(10_000)
    for number in range(5_000):
        queue.push(Waiter("always", 1))
        queue.push(Waiter(f"caller-{number}", 1))
        queue.pop()
        queue.pop()
        queue.push(Waiter("always", 1))
    assert len(queue._ranks[0].queues) < 300


def test_an_operation_takes_hardly_longer_in_a_long_line():
    def per_push(length):
        queue = FairQueue(length)
        waiters = [Waiter(f"caller-{number % 997}", number % 50 + 1) for number in range(length)]
        clock = time.perf_counter()
        for waiter in waiters:
            queue.push(waiter)
        while len(queue):
            queue.pop()
        return (time.perf_counter() - clock) / length

    assert per_push(40_000) < 20 * per_push(2_000)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), min_size=1, max_size=120))
def test_callers_that_wait_all_the_time_get_equal_shares(costs):
    """For start-time fair queueing, two backlogged callers differ by no more than their largest requests."""
    queue = FairQueue(1_000)
    for caller, cost in costs:
        queue.push(Waiter(caller, cost))
    largest = defaultdict(int)
    for caller, cost in costs:
        largest[caller] = max(largest[caller], cost)
    waiting = Counter(caller for caller, _ in costs)
    got = Counter()
    while waiting and all(waiting.values()):
        waiter = queue.pop()
        got[waiter.caller] += waiter.cost
        waiting[waiter.caller] -= 1
        for one in waiting:
            for other in waiting:
                assert got[one] - got[other] <= largest[one] + largest[other]


class Machine(RuleBasedStateMachine):
    """Join, serve and leave at random; what the queue says it will do is what it does."""

    def __init__(self):
        super().__init__()
        self.queue = FairQueue(12)
        self.inside = []

    @rule(caller=st.sampled_from("abcd"), cost=st.integers(1, 40), priority=st.integers(-1, 1))
    def push(self, caller, cost, priority):
        waiter = Waiter(caller, cost, priority)
        was_full = len(self.inside) == self.queue.capacity
        displaced = self.queue.push(waiter)
        assert (displaced is not None) == was_full
        if displaced is not waiter:
            self.inside.append(waiter)
            if displaced is not None:
                self.inside.remove(displaced)

    @precondition(lambda self: self.inside)
    @rule()
    def pop(self):
        expected = self.queue.order()[0]
        assert self.queue.head() is expected
        assert self.queue.pop() is expected
        self.inside.remove(expected)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove(self, data):
        waiter = data.draw(st.sampled_from(self.inside))
        self.queue.remove(waiter)
        self.inside.remove(waiter)

    @invariant()
    def nobody_is_lost_and_each_keeps_its_turn(self):
        order = self.queue.order()
        assert len(self.queue) == len(order)
        assert set(order) == set(self.inside)
        assert [w.priority for w in order] == sorted((w.priority for w in order), reverse=True)
        for caller in "abcd":
            for priority in (-1, 0, 1):
                mine = [w for w in order if (w.caller, w.priority) == (caller, priority)]
                assert mine == [w for w in self.inside if (w.caller, w.priority) == (caller, priority)]

    def teardown(self):
        expected = self.queue.order()
        assert list(served(self.queue)) == expected
        assert self.queue._ranks == {}
        assert self.queue._counts._counts == {}


TestLine = Machine.TestCase


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80))
def test_the_counts_knows_who_has_the_most(moves):
    callers, counts = CallerCounts(), Counter()
    for caller, joins in moves:
        if joins:
            callers.add(caller)
            counts[caller] += 1
        elif counts[caller]:
            callers.remove(caller)
            counts[caller] -= 1
        assert all(callers.count(name) == counts[name] for name in "abcd")
        if any(counts.values()):
            assert counts[callers.most()] == max(counts.values())
