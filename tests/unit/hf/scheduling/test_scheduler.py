import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.scheduler import Chunk, Scheduler
from gateway_hf.scheduling.sequence import Sequence

SIZE = 4


def _make(places=4, budget=8, blocks=100):
    blocks = Blocks(blocks, SIZE)
    return Scheduler(places, budget, blocks), blocks


_fresh = itertools.count(1000)


def _sequences(*lengths, priority=0):
    """Make sequences that share no token."""
    return [Sequence([next(_fresh) for _ in range(length)], priority) for length in lengths]


def _compute(scheduler):
    """Do what a runner does with a plan, and return it; no guess comes true."""
    plan = scheduler.plan()
    for sequence, tokens in plan:
        sequence.computed += tokens - len(sequence.draft)
        sequence.draft = []
        if not sequence.pending:
            sequence.tokens.append(next(_fresh))
        scheduler.seal(sequence)
    return plan


def _start(scheduler, *sequences):
    for sequence in sequences:
        scheduler.add(sequence)
    return scheduler.admit()


def _have_short_steps(scheduler):
    """Have it find a full step short, so that the next may have 256 tokens, and after that 512."""
    (prompt,) = _sequences(128 + 256)
    _start(scheduler, prompt)
    for _ in range(2):
        _compute(scheduler)
        scheduler.took(0.001)
    scheduler.remove(prompt)


def test_a_sequence_takes_a_place_only_when_one_is_free():
    scheduler, _ = _make(places=2)
    first, second, third = _sequences(3, 3, 3)
    assert _start(scheduler, first, second, third) == [first, second]
    assert (scheduler.running, scheduler.waiting) == (2, 1)
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert scheduler.admit() == [third]


def test_higher_priority_goes_first_and_equals_keep_their_order():
    scheduler, _ = _make(places=4)
    low, also_low = _sequences(1, 1)
    high, also_high = _sequences(1, 1, priority=5)
    assert _start(scheduler, low, high, also_low, also_high) == [high, also_high, low, also_low]


def test_admission_takes_room_for_the_prompt_and_a_block_to_begin_with():
    scheduler, blocks = _make(blocks=6)
    first, second = _sequences(8, 5)
    assert _start(scheduler, first) == [first]
    assert blocks.used == 3
    # Three blocks are left: two for the prompt, one to begin with.
    assert _start(scheduler, second) == [second]
    assert blocks.free == 0


def test_a_head_that_does_not_fit_holds_back_those_behind_it():
    scheduler, _ = _make(blocks=5)
    first, big, small = _sequences(8, 12, 1)
    assert _start(scheduler, first, big, small) == [first]
    assert scheduler.admit() == []
    scheduler.remove(first)
    assert scheduler.admit() == [big]


def test_a_prompt_that_was_cached_is_not_read_again():
    scheduler, _ = _make(budget=20)
    (first,) = _sequences(10)
    second, third = Sequence(list(first.tokens)), Sequence(list(first.tokens))
    _start(scheduler, first, second)
    third.salt = "another's"
    assert _compute(scheduler) == [Chunk(first, 10), Chunk(second, 10)]
    _start(scheduler, third)
    fourth = Sequence(first.tokens[:10])
    _start(scheduler, fourth)
    assert _compute(scheduler)[2:] == [Chunk(third, 10), Chunk(fourth, 2)]
    assert [each.cached for each in (first, second, third, fourth)] == [0, 0, 0, 8]


def test_a_prompt_that_another_reads_first_is_reused_even_if_both_came_together():
    scheduler, blocks = _make(budget=8)
    (first,) = _sequences(10)
    second = Sequence(list(first.tokens))
    _start(scheduler, first, second)
    _compute(scheduler)
    assert _compute(scheduler) == [Chunk(first, 2), Chunk(second, 2)]
    assert (second.cached, blocks.hits) == (8, 8)
    blocks.check()


def test_a_long_prompt_is_read_in_chunks_while_the_others_decode():
    scheduler, _ = _make(places=2, budget=5)
    short, long = _sequences(2, 10)
    _start(scheduler, short)
    _compute(scheduler)
    _start(scheduler, long)
    plans = [_compute(scheduler) for _ in range(4)]
    assert [plan[0] for plan in plans] == [Chunk(short, 1)] * 4
    assert [plan[1:] for plan in plans] == [[Chunk(long, 4)], [Chunk(long, 4)], [Chunk(long, 2)], [Chunk(long, 1)]]


def test_tokens_that_were_forced_go_before_prompts_and_find_room():
    scheduler, blocks = _make(budget=8)
    (prompt,), (decoding,) = _sequences(60, priority=1), _sequences(3)
    _start(scheduler, decoding)
    _compute(scheduler)
    _start(scheduler, prompt)
    decoding.tokens += [next(_fresh) for _ in range(6)]
    assert _compute(scheduler) == [Chunk(decoding, 7), Chunk(prompt, 1)]
    assert decoding.pending == 1
    assert len(decoding.blocks) * SIZE >= len(decoding.tokens) - 1
    blocks.check()


def test_short_prompts_share_a_step_in_the_order_of_admission():
    scheduler, _ = _make(places=3, budget=4)
    first, second, third = _sequences(3, 3, 3)
    _start(scheduler, first, second, third)
    assert scheduler.plan() == [Chunk(first, 3), Chunk(second, 1)]


def test_a_full_house_leaves_something_for_a_prompt():
    scheduler, _ = _make(places=3, budget=1)
    first, second, prompt = _sequences(1, 1, 9)
    _start(scheduler, first, second, prompt)
    assert scheduler.plan() == [Chunk(first, 1), Chunk(second, 1), Chunk(prompt, 2)]


def test_a_draft_is_computed_with_its_token():
    scheduler, _ = _make(budget=12)
    first, prompt = _sequences(1, 20)
    _start(scheduler, first, prompt)
    assert scheduler.decoding() == [first]
    first.draft = [1, 2, 3]
    assert scheduler.plan() == [Chunk(first, 4), Chunk(prompt, 8)]


@pytest.mark.parametrize(("length", "rows"), [(12, 1), (24, 1), (25, 4)])
def test_nothing_is_guessed_while_prompts_are_no_fewer_than_answers(length, rows):
    scheduler, _ = _make(budget=12, blocks=20)
    answer, *prompts = _sequences(1, length, length)
    _start(scheduler, answer, *prompts)
    answer.draft = [1, 2, 3]
    assert scheduler.plan()[0] == Chunk(answer, rows)


def test_a_draft_is_dropped_where_the_budget_or_the_cache_is_short():
    scheduler, _ = _make(budget=10, blocks=5)
    first, second = _sequences(1, 1)
    _start(scheduler, first, second)
    first.draft, second.draft = [1] * 4, [1]
    assert scheduler.plan() == [Chunk(first, 5), Chunk(second, 1)]
    assert second.draft == []
    scheduler.remove(second)
    first.draft = [1] * 5
    assert scheduler.plan() == [Chunk(first, 1)]
    (third,) = _sequences(8)
    _start(scheduler, third)
    third.computed = 7
    first.computed, first.tokens = 6, [0] * 7
    for guesses in ([1, 1], [1]):
        first.draft = guesses
        plan = scheduler.plan()
    assert plan[0] == Chunk(first, 2)
    assert scheduler.preemptions == 0


def _decode_until_preempted(scheduler, most=100):
    while not scheduler.preemptions:
        plan = _compute(scheduler)
        most -= 1
        assert most
    return plan


def test_a_decode_that_finds_no_block_preempts_the_last_one():
    scheduler, blocks = _make(blocks=5)
    first, second = _sequences(4, 4)
    _start(scheduler, first, second)
    while not scheduler.preemptions:
        second.draft = [1]
        plan = _compute(scheduler)
    assert [sequence for sequence, _ in plan] == [first]
    assert second.draft == []
    assert (second.blocks, second.computed, second.preempted) == ([], 0, 1)
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    assert second.prefilling
    blocks.check()


def test_who_finds_no_block_and_is_last_preempts_itself():
    scheduler, blocks = _make(blocks=6)
    first, second = _sequences(8, 4)
    _start(scheduler, first, second)
    while blocks.grow(first, blocks.size * (len(first.blocks) + 1) - first.computed):
        pass
    _compute(scheduler)
    _decode_until_preempted(scheduler)
    assert (first.preempted, second.preempted) == (0, 1)


def test_lower_priority_pays_although_it_was_there_first():
    scheduler, _ = _make(blocks=6)
    (low,), (high,) = _sequences(4), _sequences(4, priority=1)
    _start(scheduler, low)
    _start(scheduler, high)
    _decode_until_preempted(scheduler)
    assert (low.preempted, high.preempted) == (1, 0)


def test_who_was_preempted_is_first_in_its_line_and_only_there():
    scheduler, _ = _make(places=2, blocks=5)
    first, second, later = _sequences(4, 4, 1)
    (urgent,) = _sequences(1, priority=1)
    _start(scheduler, first, second, later)
    _decode_until_preempted(scheduler)
    scheduler.add(urgent)
    scheduler.remove(first)
    assert scheduler.admit() == [urgent]
    scheduler.remove(urgent)
    assert scheduler.admit() == [second]


def test_who_comes_back_finds_what_is_left_of_it_and_counts_it_as_its_own():
    scheduler, blocks = _make(blocks=6)
    first, second = _sequences(8, 8)
    _start(scheduler, first, second)
    _decode_until_preempted(scheduler)
    scheduler.remove(first)
    assert scheduler.admit() == [second]
    assert second.computed > 0
    assert second.cached == 0
    blocks.check()


def test_who_outgrows_the_whole_cache_is_handed_over():
    scheduler, blocks = _make(budget=20, blocks=2)
    (sequence,) = _sequences(7)
    _start(scheduler, sequence)
    assert _compute(scheduler)
    assert _compute(scheduler)
    assert scheduler.plan() == []
    assert scheduler.outgrown() == [sequence]
    assert scheduler.outgrown() == []
    assert (scheduler.running, blocks.free) == (0, 2)


def test_a_prompt_beyond_the_whole_cache_is_handed_over_and_holds_nobody_back():
    scheduler, _ = _make(blocks=2)
    big, small = _sequences(9, 1)
    _start(scheduler, big, small)
    assert scheduler.outgrown() == [big]
    assert scheduler.admit() == [small]


def test_a_prompt_that_just_fits_is_admitted_alone():
    scheduler, _ = _make(blocks=2)
    (sequence,) = _sequences(8)
    assert _start(scheduler, sequence) == [sequence]


def test_a_sequence_that_waits_can_leave_the_line():
    scheduler, _ = _make(places=1)
    running, waiting = _sequences(1, 1)
    _start(scheduler, running, waiting)
    scheduler.remove(waiting)
    scheduler.remove(waiting)
    assert (scheduler.running, scheduler.waiting) == (1, 0)


def test_what_the_cache_holds_is_counted_in_tokens():
    scheduler, _ = _make()
    _start(scheduler, *_sequences(3, 5))
    assert scheduler.cached == (1 + 1) * SIZE + (2 + 1) * SIZE


_arrivals = st.lists(
    st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.integers(0, 2), st.integers(1, 9)), max_size=25
)
_shapes = {
    "arrivals": _arrivals,
    "places": st.integers(1, 4),
    "budget": st.integers(1, 10),
    "blocks": st.integers(6, 12),
    "every": st.integers(1, 3),
}


def _serve(scheduler, blocks, left, every, watch):
    """Let sequences arrive and run until each has drawn what `left` says; `watch` sees every plan."""
    coming = list(left)
    for tick in itertools.count():
        if tick % every == 0 and coming:
            scheduler.add(coming.pop(0))
        admitted = scheduler.admit()
        before = {sequence: sequence.preempted for sequence in left}
        for sequence in scheduler.decoding():
            sequence.draft = [0] * (tick % 4)
        plan = _compute(scheduler)
        watch(admitted, plan, [sequence for sequence in left if sequence.preempted > before[sequence]])
        blocks.check()
        for sequence in [each for each in plan if len(each[0].tokens) - each[0].prompt_tokens >= left[each[0]]]:
            scheduler.remove(sequence[0])
            del left[sequence[0]]
        if not left:
            return tick
        assert plan or coming
    raise AssertionError


@settings(deadline=None)
@given(**_shapes)
def test_the_budget_and_the_order_are_kept_and_no_place_is_used_twice(arrivals, places, budget, blocks, every):
    scheduler, blocks = _make(places, budget, blocks)
    left = {Sequence(tokens, priority): answer for tokens, priority, answer in arrivals}
    order, admissions = list(left), []

    def watch(admitted, plan, preempted):
        admissions.extend(sequence for sequence in admitted if sequence not in admissions)
        planned = [sequence for sequence, _ in plan]
        assert len(set(planned)) == len(planned) <= scheduler.running <= places
        assert sum(tokens for _, tokens in plan) <= max(budget, places + 1)
        assert all(tokens > 0 for _, tokens in plan)
        # Who is preempted is not computed, and gave way to nobody of a lower priority.
        assert not set(preempted) & set(planned)
        for victim in preempted:
            assert all(sequence.priority >= victim.priority for sequence in planned)
        for sequence in planned:
            assert sequence.cached < sequence.prompt_tokens

    _serve(scheduler, blocks, left, every, watch)
    assert len(admissions) == len(arrivals)
    for priority in range(3):
        of_priority = [sequence for sequence in admissions if sequence.priority == priority]
        assert of_priority == sorted(of_priority, key=order.index)
    assert (scheduler.running, scheduler.waiting, scheduler.outgrown(), blocks.free) == (0, 0, [], blocks.count)


@settings(deadline=None)
@given(**_shapes)
def test_among_equals_nobody_starves(arrivals, places, budget, blocks, every):
    scheduler, blocks = _make(places, budget, blocks)
    left = {Sequence(tokens): answer for tokens, _, answer in arrivals}
    # In each step the oldest computes a token of its prompt at least, or draws one: nothing takes that from it.
    most = every * len(left) + sum(sequence.prompt_tokens + answer for sequence, answer in left.items())

    def watch(_, plan, preempted):
        oldest = min((sequence for sequence, _ in plan), key=order.index, default=None)
        assert oldest not in preempted
        assert all(order.index(oldest) <= order.index(sequence) for sequence in preempted)

    order = list(left)
    assert _serve(scheduler, blocks, left, every, watch) <= most


@given(moves=st.lists(st.tuples(st.sampled_from("axrs"), st.integers(0, 9)), max_size=80), places=st.integers(1, 3))
def test_leaving_at_any_time_loses_no_place_and_no_block(moves, places):
    scheduler, blocks = _make(places, 8, blocks=8)
    known = [Sequence([index % 3] * (index + 1)) for index in range(10)]
    inside = set()
    for move, at in moves:
        sequence = known[at]
        if move == "a" and sequence not in inside:
            scheduler.add(sequence)
            inside.add(sequence)
        elif move in "xs":
            (scheduler.remove if move == "x" else scheduler.scrap)(sequence)
            inside.discard(sequence)
        else:
            scheduler.admit()
            _compute(scheduler)
            inside.difference_update(scheduler.outgrown())
        assert scheduler.running + scheduler.waiting == len(inside)
        assert scheduler.running <= places
        blocks.check()
    for sequence in inside:
        scheduler.remove(sequence)
    blocks.check()
    assert blocks.free == blocks.count


def _scored(*lengths):
    """Make sequences whose prompts are to be scored."""
    sequences = _sequences(*lengths)
    for sequence in sequences:
        sequence.ranks = 0
    return sequences


def test_prompts_that_are_scored_share_a_bound_and_leave_the_rest_of_the_step_to_others():
    scheduler, _ = _make(budget=400, blocks=200)
    _have_short_steps(scheduler)
    first, second, third = _scored(100, 100, 100)
    (plain,) = _sequences(150)
    _start(scheduler, first, second, third, plain)
    assert scheduler.plan() == [Chunk(first, 100), Chunk(second, 28), Chunk(plain, 150)]


def test_a_chunk_wants_the_logits_of_all_tokens_that_score_and_of_the_one_that_draws():
    (sequence,) = _scored(10)
    first = Chunk(sequence, 4)
    assert (first.draws, first.wanted) == (0, 4)
    sequence.computed, sequence.scores = 4, [()] * 4
    last = Chunk(sequence, 6)
    assert (last.draws, last.wanted) == (1, 6)


def test_what_is_read_again_after_a_preemption_is_not_scored_again():
    (sequence,) = _scored(10)
    sequence.scores = [()] * 5
    assert Chunk(sequence, 4).wanted == 0
    assert Chunk(sequence, 7).wanted == 2
    sequence.scores = [()] * 9
    sequence.tokens += [1, 2]
    assert Chunk(sequence, 11).wanted == 0
    assert Chunk(sequence, 12).wanted == 1


def test_one_token_more_or_less_scores_nobody_elses():
    (sequence,) = _sequences(10)
    assert (Chunk(sequence, 9).wanted, Chunk(sequence, 10).wanted) == (0, 1)
    sequence.computed, sequence.draft = 9, [1, 2, 3]
    assert Chunk(sequence, 4).wanted == Chunk(sequence, 4).draws == 4


def _standing(*lengths, priority=0):
    made = _sequences(*lengths, priority=priority)
    for sequence in made:
        sequence.standby = True
    return made


def test_what_stands_by_is_computed_only_while_nothing_else_is():
    scheduler, _ = _make(budget=20)
    first, second = _standing(3, 3, priority=9)
    _start(scheduler, first, second)
    assert _compute(scheduler) == [Chunk(first, 3), Chunk(second, 3)]
    (asked,) = _sequences(3)
    assert _start(scheduler, asked) == [asked]
    assert _compute(scheduler) == [Chunk(asked, 3)]
    assert scheduler.decoding() == [asked]
    (third,) = _standing(3)
    assert _start(scheduler, third) == []
    assert _compute(scheduler) == [Chunk(asked, 1)]
    scheduler.remove(asked)
    assert scheduler.admit() == [third]
    assert _compute(scheduler) == [Chunk(first, 1), Chunk(second, 1), Chunk(third, 3)]


def test_a_step_of_what_stands_by_is_short():
    scheduler, _ = _make(budget=500)
    _have_short_steps(scheduler)
    (standing,) = _standing(200)
    _start(scheduler, standing)
    assert [tokens for _, tokens in _compute(scheduler)] == [64]
    (asked,) = _sequences(200)
    _start(scheduler, asked)
    assert _compute(scheduler) == [Chunk(asked, 200)]


def test_what_stands_by_makes_room_for_places_and_for_the_cache():
    scheduler, blocks = _make(places=2, blocks=8, budget=40)
    first, second = _standing(6, 6)
    _start(scheduler, first, second)
    _compute(scheduler)
    told = list(second.tokens)
    (asked,) = _sequences(3)
    assert _start(scheduler, asked) == [asked]  # the place of the second
    assert (second.preempted, first.preempted, scheduler.waiting) == (1, 0, 1)
    (large,) = _sequences(17)
    assert _start(scheduler, large) == [large]  # what the first had in the cache
    assert (first.preempted, scheduler.running, scheduler.waiting) == (1, 2, 2)
    for sequence in (asked, large):
        scheduler.remove(sequence)
    assert scheduler.admit() == [first, second]
    assert second.tokens == told
    blocks.check()


def test_what_stands_by_and_gives_its_room_to_a_request_is_no_preempted_answer():
    scheduler, _ = _make(places=1)
    (line,) = _standing(3)
    assert _start(scheduler, line) == [line]
    (asked,) = _sequences(3)
    assert _start(scheduler, asked) == [asked]
    assert (line.preempted, scheduler.preemptions) == (1, 0)


def test_forced_tokens_have_room_and_are_no_burst():
    scheduler, _ = _make(places=8, budget=512, blocks=400)
    _have_short_steps(scheduler)
    answers = _sequences(4, 4, 4, 4)
    _start(scheduler, *answers)
    for _ in range(3):
        _compute(scheduler)
        scheduler.took(0.02)
    for answer in answers[:2]:
        answer.tokens += [next(_fresh) for _ in range(2)]
    (prompt,) = _sequences(400)
    _start(scheduler, prompt)
    forced, paced = answers[:2], scheduler.plan()
    assert [chunk for chunk in paced if chunk.sequence in forced] == [Chunk(each, 3) for each in forced]
    assert sum(chunk.tokens for chunk in paced if chunk.sequence is prompt) < 128
