"""How chunks are laid end to end; plain numbers, no model."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gateway_hf.compute.kernels import BLOCK
from gateway_hf.compute.layout import BatchLayout
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, scattered, seated

_CPU = torch.device("cpu")


def test_chunks_lie_end_to_end_with_their_own_positions():
    fresh = seated(numbers(20), [7, 3])
    going = seated(numbers(18, 1), [5, 0], computed=17)
    rows = BatchLayout([Chunk(fresh, 20), Chunk(going, 1)])
    assert rows.ids == [*fresh.tokens, going.tokens[17]]
    assert rows.positions == [*range(20), 17]
    assert rows.starts.tolist() == [0, 20, 21]
    assert rows.past.tolist() == [0, 17]
    assert (rows.batch.sequences, rows.batch.rows, rows.batch.width) == (2, 21, 2)


def test_tables_name_the_blocks_that_are_filled_and_no_room_beyond():
    rows = BatchLayout([Chunk(seated(numbers(40), [9, 4, 6, 1]), 40), Chunk(seated(numbers(3), [2, 8]), 3)])
    assert rows.tables.tolist() == [[9, 4, 6], [2, 0, 0]]


def test_a_row_is_wanted_where_a_chunk_leaves_nothing_pending():
    ended = Chunk(seated(numbers(10), [0]), 10)
    going = Chunk(seated(numbers(10), [1]), 4)
    alone = Chunk(seated(numbers(10), [2], computed=9), 1)
    rows = BatchLayout([ended, going, alone])
    assert (rows.wanted, rows.counts) == ([9, 14], [1, 0, 1])


def test_a_draft_is_computed_behind_the_last_token_and_each_of_it_is_wanted():
    sequence = seated(numbers(30), [0, 1, 2], computed=29, draft=[7, 8, 9])
    rows = BatchLayout([Chunk(seated(numbers(4), [3]), 4), Chunk(sequence, 4)])
    assert rows.ids[4:] == [sequence.tokens[-1], 7, 8, 9]
    assert rows.positions[4:] == [29, 30, 31, 32]
    assert (rows.wanted, rows.counts) == ([3, 4, 5, 6, 7], [1, 4])
    assert rows.tables.tolist() == [[3, 0, 0], [0, 1, 2]]


def test_no_wanted_row_is_an_index_still():
    rows = BatchLayout([Chunk(seated(numbers(10), [1]), 4)])
    wanted = rows.tensor(rows.wanted, _CPU)[0]
    assert torch.zeros(4, 2)[wanted].shape == (0, 2)


def test_new_tokens_go_to_the_slots_of_their_own_blocks():
    slots = BatchLayout([Chunk(seated(numbers(18), [5, 2], computed=15), 3), Chunk(seated(numbers(1), [0]), 1)]).slots(
        _CPU
    )
    assert slots.new.tolist() == [5 * BLOCK + 15, 2 * BLOCK, 2 * BLOCK + 1, 0]


def test_those_that_decode_attend_together_and_prompts_alone():
    sizes = [1, 1, 5, 1, 2, 1, 1]
    chunks = [
        Chunk(seated(numbers(20), [at * 2, at * 2 + 1], computed=20 - size), size) for at, size in enumerate(sizes)
    ]
    groups = list(BatchLayout(chunks).slots(_CPU).groups(0))
    assert [(group.span.start, group.span.stop) for group in groups] == [(0, 2), (2, 7), (7, 8), (8, 10), (10, 12)]
    assert [len(group.held) for group in groups] == [2, 1, 1, 1, 2]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    share=st.floats(0, 1),
    window=st.sampled_from([0, 1, 5, 100]),
)
def test_each_row_sees_its_own_tokens_up_to_itself_and_never_anothers(lengths, share, window):
    tables, _ = scattered(lengths)
    chunks = []
    for length, blocks in zip(lengths, tables, strict=True):
        computed = int(share * (length - 1))
        chunks.append(Chunk(seated(numbers(length), blocks, computed), length - computed))
    rows = BatchLayout(chunks)
    owners = [at for at, chunk in enumerate(chunks) for _ in range(chunk.tokens)]
    for group in rows.slots(_CPU).groups(window):
        held = group.held.repeat_interleave((group.span.stop - group.span.start) // len(group.held), 0)
        mask = group.mask.flatten(0, 2)
        for row, slots, seen in zip(range(group.span.start, group.span.stop), held, mask, strict=True):
            own = tables[owners[row]]
            at = rows.positions[row]
            least = max(0, at - window + 1) if window else 0
            expected = [own[token // BLOCK] * BLOCK + token % BLOCK for token in range(least, at + 1)]
            assert slots[seen].tolist() == expected
            # A masked slot counts nothing, but zero times no number is none: it must be the sequence's own.
            assert {int(slot) // BLOCK for slot in slots} <= set(own)


def test_of_a_prompt_that_is_scored_every_row_is_wanted():
    scored = seated(numbers(10), [0])
    scored.ranks = 0
    rows = BatchLayout([Chunk(seated(numbers(3), [1]), 3), Chunk(scored, 4), Chunk(seated(numbers(2), [2]), 2)])
    assert (rows.wanted, rows.counts) == ([2, 3, 4, 5, 6, 8], [1, 4, 1])
