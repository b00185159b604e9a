"""Blocks against a memory of what was written where: what a sequence reads is always its own tokens."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.sequence import Sequence

SIZE = 4


def _compute(blocks, sequence):
    """Do with a sequence what a scheduler and a runner do to its end."""
    found = blocks.reuse(sequence)
    assert blocks.grow(sequence, sequence.pending)
    sequence.computed = len(sequence.tokens)
    blocks.seal(sequence)
    return found


def _leave(blocks, tokens, salt="", adapter=0):
    sequence = Sequence(list(tokens), salt=salt, adapter=adapter)
    found = _compute(blocks, sequence)
    blocks.release(sequence)
    return found


def test_room_is_taken_in_whole_blocks_or_not_at_all():
    blocks, sequence = Blocks(3, SIZE), Sequence([0] * 9)
    assert blocks.grow(sequence, 5)
    assert (len(sequence.blocks), blocks.free, blocks.used) == (2, 1, 2)
    assert blocks.grow(sequence, 8)
    assert len(sequence.blocks) == 2
    assert not blocks.grow(sequence, 13)
    assert (len(sequence.blocks), blocks.free) == (2, 1)
    blocks.release(sequence)
    blocks.release(sequence)
    assert (sequence.blocks, blocks.free) == ([], 3)
    assert blocks.reached == 2
    blocks.check()


def test_a_prompt_that_was_cached_is_found_but_for_its_last_token():
    blocks = Blocks(8, SIZE)
    assert _leave(blocks, range(12)) == 0
    assert _leave(blocks, range(12)) == 8
    assert _leave(blocks, range(13)) == 12
    assert blocks.hits == 20
    assert blocks.free == 8


def test_a_prefix_counts_only_up_to_the_first_difference():
    blocks = Blocks(8, SIZE)
    _leave(blocks, range(12))
    assert _leave(blocks, [*range(6), 99, *range(7, 13)]) == 4
    assert _leave(blocks, [99, *range(1, 13)]) == 0


def test_who_runs_shares_its_blocks():
    blocks, first, second = Blocks(4, SIZE), Sequence(list(range(9))), Sequence(list(range(10)))
    _compute(blocks, first)
    assert _compute(blocks, second) == 8
    assert first.blocks[:2] == second.blocks[:2]
    assert first.blocks[2] != second.blocks[2]
    blocks.release(first)
    assert (blocks.free, blocks.used) == (1, 3)
    blocks.check()


def test_another_salt_finds_nothing():
    blocks = Blocks(8, SIZE)
    _leave(blocks, range(9), "mine")
    assert _leave(blocks, range(9), "yours") == 0
    assert _leave(blocks, range(9), "mine") == 8


def test_another_adapter_finds_nothing():
    blocks = Blocks(12, SIZE)
    assert [_leave(blocks, range(9), "mine", adapter) for adapter in (0, 1, 256, 0, 1, 256)] == [0, 0, 0, 8, 8, 8]
    assert _leave(blocks, range(9), "yours", 1) == 0


def test_any_text_is_a_salt():
    assert _leave(Blocks(8, SIZE), range(9), "\ud800") == 0


def test_the_end_of_what_was_used_longest_ago_is_evicted_first():
    blocks = Blocks(6, SIZE)
    _leave(blocks, range(100, 112))
    _leave(blocks, range(200, 212))
    other = Sequence([0] * SIZE)
    assert blocks.grow(other, SIZE)
    assert blocks.evictions == 1
    assert not blocks.fits(Sequence(list(range(100, 113))), 6 * SIZE)
    assert _leave(blocks, range(100, 113)) == 8


def test_what_is_used_again_is_kept():
    blocks = Blocks(3, SIZE)
    for start in (100, 200, 300):
        _leave(blocks, range(start, start + SIZE))
    again = Sequence(list(range(100, 100 + SIZE + 1)))
    assert blocks.reuse(again) == SIZE
    blocks.release(again)
    assert blocks.grow(Sequence([0]), 1)
    assert blocks.reuse(Sequence(list(range(200, 205)))) == 0
    assert blocks.reuse(Sequence(list(range(100, 105)))) == SIZE


def test_nothing_that_runs_is_evicted():
    blocks, running = Blocks(3, SIZE), Sequence(list(range(8)))
    _compute(blocks, running)
    assert not blocks.grow(Sequence([1] * 8), 8)
    assert blocks.grow(Sequence([1] * 4), 4)


def test_of_two_equal_blocks_the_older_is_found():
    blocks, first, second = Blocks(4, SIZE), Sequence(list(range(5))), Sequence(list(range(5)))
    for sequence in (first, second):
        assert blocks.grow(sequence, 5)
        sequence.computed = 5
        blocks.seal(sequence)
    third = Sequence(list(range(5)))
    assert blocks.reuse(third) == SIZE
    assert third.blocks == first.blocks[:1]
    blocks.release(second)
    blocks.check()


def test_who_has_not_begun_takes_up_what_another_read_meanwhile():
    blocks, first, second = Blocks(6, SIZE), Sequence(list(range(9))), Sequence(list(range(9)))
    for sequence in (first, second):
        assert blocks.reuse(sequence) == 0
        assert blocks.grow(sequence, 9)
    assert blocks.free == 0
    first.computed = 9
    blocks.seal(first)
    assert blocks.reuse(second) == 8
    assert (second.computed, blocks.free, len(second.blocks)) == (8, 2, 3)
    blocks.check()


def test_who_is_amid_a_block_takes_up_what_another_read_meanwhile():
    blocks, first, second = Blocks(8, SIZE), Sequence(list(range(9))), Sequence(list(range(12)))
    assert blocks.grow(second, 12)
    second.computed = 6
    blocks.seal(second)
    _compute(blocks, first)
    assert blocks.reuse(second) == 2
    assert (second.computed, second.blocks[:2]) == (8, first.blocks[:2])
    assert (len(second.blocks), blocks.free) == (3, 4)
    blocks.check()


def test_what_may_be_broken_is_not_found_again():
    blocks, broken, sharing = Blocks(6, SIZE), Sequence(list(range(9))), Sequence(list(range(9)))
    _compute(blocks, broken)
    _compute(blocks, sharing)
    blocks.scrap(broken)
    blocks.check()
    assert _leave(blocks, range(9)) == 0
    blocks.release(sharing)
    blocks.check()
    assert blocks.free == 6


def test_what_would_fit_is_known_before():
    blocks = Blocks(4, SIZE)
    _leave(blocks, range(8))
    assert blocks.grow(Sequence([7] * 4), 4)
    # Two idle blocks and a free one: what is reused cannot be evicted for the rest.
    assert blocks.fits(Sequence(list(range(9))), 12)
    assert not blocks.fits(Sequence(list(range(9))), 13)
    assert blocks.fits(Sequence([1] * 12), 12)


def _lose(blocks, _):
    blocks._free.pop()


def _double(blocks, sequence):
    sequence.blocks.append(sequence.blocks[0])


def _miscount(blocks, sequence):
    blocks._references[sequence.blocks[0]] += 1


def _overrun(_, sequence):
    sequence.computed = 100


def _hide(blocks, _):
    blocks._findable.clear()


def _expose(blocks, _):
    blocks._keys[blocks._free[0]] = b"key"
    blocks._findable[b"key"] = blocks._free[0]


@pytest.mark.parametrize("harm", [_lose, _double, _miscount, _overrun, _hide, _expose])
def test_the_check_finds_what_is_broken(harm):
    blocks, sequence = Blocks(6, SIZE), Sequence(list(range(9)))
    _compute(blocks, sequence)
    _leave(blocks, range(50, 54))
    blocks.check()
    harm(blocks, sequence)
    with pytest.raises(RuntimeError):
        blocks.check()


class _Life(RuleBasedStateMachine):
    """Sequences over few tokens come, grow, share, fail and leave; a memory remembers what each block holds."""

    sequences = Bundle("sequences")

    def __init__(self):
        super().__init__()
        self.blocks = Blocks(10, SIZE)
        self.memory = {}
        self.held = []

    def _compute(self, sequence, tokens):
        for position in range(sequence.computed, sequence.computed + tokens):
            slot = sequence.blocks[position // SIZE], position % SIZE
            self.memory[slot] = (sequence.salt, sequence.adapter, position, sequence.tokens[position])
        sequence.computed += tokens

    @rule(
        target=sequences,
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20),
        salt=st.sampled_from(["", "", "salt"]),
        adapter=st.sampled_from([0, 0, 1, 2]),
    )
    def come(self, tokens, salt, adapter):
        sequence = Sequence(tokens, salt=salt, adapter=adapter)
        fits = self.blocks.fits(sequence, len(tokens))
        found = self.blocks.reuse(sequence)
        assert found == sequence.computed < len(tokens)
        assert self.blocks.grow(sequence, sequence.pending) == fits
        if fits:
            self.held.append(sequence)
            return sequence
        self.blocks.release(sequence)
        return multiple()

    @rule(sequence=sequences, tokens=st.integers(1, 9))
    def read(self, sequence, tokens):
        self.blocks.reuse(sequence)
        self._compute(sequence, min(tokens, sequence.pending))
        self.blocks.seal(sequence)

    @rule(sequence=sequences, tokens=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def draw(self, sequence, tokens):
        if sequence.pending <= 1 and self.blocks.grow(sequence, sequence.pending + len(tokens)):
            sequence.tokens += tokens
            self._compute(sequence, sequence.pending)
            self.blocks.seal(sequence)

    @rule(sequence=consumes(sequences), well=st.booleans())
    def leave(self, sequence, well):
        self.held.remove(sequence)
        if well:
            self.blocks.release(sequence)
        else:
            self.blocks.scrap(sequence)

    @invariant()
    def nothing_is_lost_or_used_twice(self):
        self.blocks.check()
        assert self.blocks.used == len({block for sequence in self.held for block in sequence.blocks})

    @invariant()
    def everyone_reads_its_own_tokens(self):
        for sequence in self.held:
            for position in range(sequence.computed):
                held = self.memory[sequence.blocks[position // SIZE], position % SIZE]
                assert held == (sequence.salt, sequence.adapter, position, sequence.tokens[position])

    def teardown(self):
        for sequence in self.held:
            self.blocks.release(sequence)
        self.blocks.check()
        assert (self.blocks.free, self.blocks.used) == (10, 0)


TestLife = _Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_what_is_to_be_scored_finds_nothing_and_is_found_by_others():
    blocks = Blocks(8, SIZE)
    _leave(blocks, range(12))
    scored = Sequence(list(range(12)), ranks=0)
    assert blocks.reuse(scored) == 0
    blocks.release(scored)
    other = Sequence(list(range(20, 32)), ranks=0)
    assert _compute(blocks, other) == 0
    blocks.release(other)
    assert _leave(blocks, range(20, 32)) == 8


def test_room_for_what_is_to_be_scored_counts_no_block_that_is_found():
    blocks, holder = Blocks(4, SIZE), Sequence(list(range(9)))
    _compute(blocks, holder)
    assert blocks.fits(Sequence(list(range(9))), 9)
    assert not blocks.fits(Sequence(list(range(9)), ranks=0), 9)


def test_what_was_scored_already_is_found_again():
    blocks = Blocks(8, SIZE)
    _leave(blocks, range(12))
    scored = Sequence(list(range(12)), ranks=0)
    scored.scores += [()] * 11
    assert blocks.reuse(scored) == 8


def test_what_would_be_found_is_counted_and_nothing_held():
    blocks = Blocks(8, SIZE)
    _leave(blocks, range(10))
    sequence = Sequence(list(range(10)))
    free = blocks.free
    assert (blocks.found(sequence), blocks.free, blocks.hits, sequence.blocks) == (8, free, 0, [])
    assert blocks.found(Sequence(list(range(10)), salt="other")) == 0
    assert blocks.reuse(sequence) == 8
