import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway_hf.scheduler import Chunk, Scheduler
from gateway_hf.sequence import Sequence


def _sequences(*lengths, priority=0):
    return [Sequence(list(range(length)), priority) for length in lengths]


def _compute(scheduler):
    """Do what a runner does with a plan, and return it."""
    plan = scheduler.plan()
    for sequence, tokens in [*[Chunk(sequence, 1) for sequence in plan.decodes], *plan.prefills]:
        sequence.computed += tokens
        if not sequence.pending:
            sequence.tokens.append(0)
    return plan


def test_a_sequence_takes_a_place_only_when_one_is_free():
    scheduler = Scheduler(places=2, chunk=8)
    first, second, third = _sequences(3, 3, 3)
    for sequence in (first, second, third):
        scheduler.add(sequence)
    assert scheduler.admit() == [first, second]
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert scheduler.admit() == [third]


def test_higher_priority_goes_first_and_equals_keep_their_order():
    scheduler = Scheduler(places=4, chunk=8)
    low, also_low = _sequences(1, 1)
    high, also_high = _sequences(1, 1, priority=5)
    for sequence in (low, high, also_low, also_high):
        scheduler.add(sequence)
    assert scheduler.admit() == [high, also_high, low, also_low]


def test_a_long_prompt_is_read_in_chunks_while_the_others_decode():
    scheduler = Scheduler(places=2, chunk=4)
    short, long = _sequences(2, 9)
    scheduler.add(short)
    scheduler.admit()
    _compute(scheduler)
    scheduler.add(long)
    scheduler.admit()
    plans = [_compute(scheduler) for _ in range(4)]
    assert [plan.prefills for plan in plans] == [[Chunk(long, 4)], [Chunk(long, 4)], [Chunk(long, 1)], []]
    assert [plan.decodes for plan in plans] == [[short], [short], [short], [short, long]]


def test_short_prompts_share_a_chunk_in_the_order_of_admission():
    scheduler = Scheduler(places=3, chunk=4)
    first, second, third = _sequences(3, 3, 3)
    for sequence in (first, second, third):
        scheduler.add(sequence)
    scheduler.admit()
    assert scheduler.plan().prefills == [Chunk(first, 3), Chunk(second, 1)]


def test_a_sequence_that_waits_can_leave_the_line():
    scheduler = Scheduler(places=1, chunk=4)
    running, waiting = _sequences(1, 1)
    scheduler.add(running)
    scheduler.admit()
    scheduler.add(waiting)
    scheduler.remove(waiting)
    scheduler.remove(waiting)
    assert (scheduler.running, scheduler.waiting) == (1, 0)


def test_the_cache_is_counted_in_computed_tokens():
    scheduler = Scheduler(places=2, chunk=4)
    for sequence in _sequences(3, 5):
        scheduler.add(sequence)
    scheduler.admit()
    _compute(scheduler)
    assert scheduler.cached == 4


_arrivals = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2), st.integers(1, 6)), max_size=25)


@given(arrivals=_arrivals, places=st.integers(1, 4), chunk=st.integers(1, 6), every=st.integers(1, 3))
def test_everyone_runs_once_in_order_and_no_place_is_used_twice(arrivals, places, chunk, every):
    scheduler = Scheduler(places, chunk)
    left = {Sequence([0] * length, priority): answer for length, priority, answer in arrivals}
    order = list(left)
    coming, admitted = order.copy(), []
    for tick in itertools.count():
        if tick % every == 0 and coming:
            scheduler.add(coming.pop(0))
        admitted += scheduler.admit()
        assert scheduler.running == min(places, scheduler.running + scheduler.waiting)
        plan = _compute(scheduler)
        planned = plan.decodes + [sequence for sequence, _ in plan.prefills]
        assert len(set(planned)) == len(planned) <= places
        assert sum(tokens for _, tokens in plan.prefills) <= chunk
        for sequence in [each for each in planned if len(each.tokens) - each.prompt_tokens >= left[each]]:
            scheduler.remove(sequence)
            del left[sequence]
        if not left:
            break
        # Every tick with somebody in a place computes something, so the end comes: nobody starves.
        assert planned or coming
        assert tick < 2000
    assert len(admitted) == len(set(admitted)) == len(arrivals)
    for priority in range(3):
        of_priority = [sequence for sequence in admitted if sequence.priority == priority]
        assert of_priority == sorted(of_priority, key=order.index)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


@given(moves=st.lists(st.tuples(st.sampled_from("axr"), st.integers(0, 9)), max_size=60), places=st.integers(1, 3))
def test_leaving_at_any_time_loses_no_place(moves, places):
    scheduler = Scheduler(places, 4)
    known = _sequences(*range(1, 11))
    inside = set()
    for move, at in moves:
        sequence = known[at]
        if move == "a" and sequence not in inside:
            scheduler.add(sequence)
            inside.add(sequence)
        elif move == "x":
            scheduler.remove(sequence)
            inside.discard(sequence)
        else:
            scheduler.admit()
            assert scheduler.running == min(places, len(inside))
        assert scheduler.running + scheduler.waiting == len(inside)
