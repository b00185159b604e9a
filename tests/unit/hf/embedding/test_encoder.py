from hypothesis import given
from hypothesis import strategies as st

from gateway_hf.embedding.encoder import passes

LENGTHS = st.lists(st.integers(1, 600), max_size=60)


@given(LENGTHS, st.integers(1, 4_096))
def test_each_text_is_in_one_pass_and_a_pass_has_its_bounds(lengths, most):
    found = list(passes(lengths, most))
    assert sorted(place for places in found for place in places) == list(range(len(lengths)))
    for places in found:
        longest = max(lengths[place] for place in places)
        assert len(places) == 1 or len(places) * longest <= most
        assert all(longest * 7 <= lengths[place] * 8 for place in places)


@given(LENGTHS)
def test_texts_of_one_length_are_computed_together(lengths):
    assert len(list(passes([7] * len(lengths), 1 << 20))) == min(len(lengths), 1)
