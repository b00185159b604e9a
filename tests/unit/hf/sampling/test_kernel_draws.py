"""The kernels draw what torch draws: the same tokens at the same levels."""

import pytest
import torch

from gateway_hf.sampling.kernel_draws import draw_by_kernels
from gateway_hf.sampling.sampler import Draws, probabilities, sample
from gateway_hf.sampling.terms import Terms

_CPU = torch.device("cpu")
_ROWS = 24
_WAYS = {
    "everything": {},
    "cold": {"temperature": 0.05},
    "hot": {"temperature": 50.0},
    "as hot as numbers go": {"temperature": 1e30},
    "some, as hot as numbers go": {"temperature": 1e30, "top_k": 5},
    "as cold as numbers go": {"temperature": 1e-5, "top_p": 0.9},
    "some": {"top_k": 40},
    "one": {"top_k": 1},
    "more than groups": {"top_k": 300},
    "all but one": {"top_k": 999},
    "more than there are": {"top_k": 1 << 40},
    "a nucleus": {"top_p": 0.9},
    "a small nucleus": {"top_p": 0.1, "temperature": 0.7},
    "no mass": {"top_p": 0.0},
    "nearly all mass": {"top_p": 0.999999},
    "a flat nucleus": {"top_p": 0.7, "temperature": 30.0},
    "likely ones": {"min_p": 0.05},
    "the likeliest": {"min_p": 1.0},
    "some of a nucleus": {"top_k": 50, "top_p": 0.8, "temperature": 1.5},
    "all at once": {"top_k": 200, "top_p": 0.95, "min_p": 0.01, "temperature": 0.8},
}


def _logits(vocabulary, seed=0):
    return torch.randn(_ROWS, vocabulary, generator=torch.Generator().manual_seed(seed)) * 4


@pytest.mark.parametrize("vocabulary", [1000, 1024, 7])
@pytest.mark.parametrize("way", _WAYS)
def test_a_token_is_the_one_where_the_level_is_reached(kernels, way, vocabulary):
    terms = Terms(limit=1, **_WAYS[way])
    logits = _logits(vocabulary)
    chances = probabilities(logits, [terms] * _ROWS).double()
    reached = chances.cumsum(-1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        levels = (1.0 - torch.rand(_ROWS, generator=generator, dtype=torch.float64)).tolist()
        tokens = draw_by_kernels(kernels, logits, range(_ROWS), [terms] * _ROWS, levels)
        for row, (token, level) in enumerate(zip(tokens, levels, strict=True)):
            assert chances[row, token] > 0
            # Sums are rounded here and there: alike to five digits.
            before = reached[row, token] - chances[row, token]
            assert before - 1e-5 <= level * reached[row, -1] <= reached[row, token] + 1e-5


@pytest.mark.parametrize("vocabulary", [4096, 49152])
def test_without_mass_the_first_of_the_likeliest_is_drawn(kernels, vocabulary):
    logits = torch.zeros(2, vocabulary)
    logits[1, : vocabulary // 2] = -50
    terms = [Terms(limit=1, top_p=0.0)] * 2
    assert draw_by_kernels(kernels, logits, range(2), terms, [0.5] * 2) == [0, vocabulary // 2]


def test_what_is_next_to_impossible_is_not_drawn_where_sums_are_rounded(kernels):
    logits = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 3
    logits[:, 5] = logits.amax(-1) + 2
    logits[:, 63] = -80
    for step in range(0, 100, 5):
        levels = [1.0 - step * 2e-9] * 64
        assert 63 not in draw_by_kernels(kernels, logits, range(64), [Terms(limit=1)] * 64, levels)


@pytest.mark.parametrize("level", [2**-53, 1.0])
@pytest.mark.parametrize("way", ["everything", "some", "a nucleus", "likely ones"])
def test_what_is_banned_is_never_drawn(kernels, way, level):
    logits = _logits(1000)
    allowed = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    allowed[:, :70] = allowed[:, -70:] = False
    allowed[:, 500] = True
    logits = logits.masked_fill(~allowed, float("-inf"))
    tokens = draw_by_kernels(kernels, logits, range(_ROWS), [Terms(limit=1, **_WAYS[way])] * _ROWS, [level] * _ROWS)
    assert all(allowed[row, token] for row, token in enumerate(tokens))


def test_each_row_has_its_own_terms_and_may_be_left_out(kernels):
    logits = _logits(1000)
    ways = [Terms(limit=1, **way) for way in _WAYS.values()]
    rows = range(1, 1 + len(ways))
    together = draw_by_kernels(kernels, logits, rows, ways, [0.5] * len(ways))
    for row, way, token in zip(rows, ways, together, strict=True):
        assert draw_by_kernels(kernels, logits, [row], [way], [0.5]) == [token]


@pytest.mark.parametrize("way", _WAYS)
def test_of_tokens_that_are_as_likely_as_the_last_of_some_all_stay(kernels, way):
    logits = torch.zeros(1, 320)
    seen = {
        draw_by_kernels(kernels, logits, [0], [Terms(limit=1, **_WAYS[way])], [at / 640])[0] for at in range(1, 641)
    }
    share = {"a nucleus": 0.9, "as cold as numbers go": 0.9, "a flat nucleus": 0.7}
    share |= {"a small nucleus": 0.1, "no mass": 1 / 320, "some of a nucleus": 0.8, "all at once": 0.95}
    assert seen == set(range(round(320 * share.get(way, 1.0))))


@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf])
@pytest.mark.parametrize("way", ["everything", "some", "a nucleus", "likely ones"])
def test_where_there_are_no_numbers_nothing_is_drawn_of_that_row_alone(kernels, way, spoiled):
    logits = _logits(1000)
    logits[3, 500] = spoiled
    logits[5] = float("-inf")
    tokens = draw_by_kernels(kernels, logits, range(_ROWS), [Terms(limit=1, **_WAYS[way])] * _ROWS, [0.5] * _ROWS)
    assert [at for at, token in enumerate(tokens) if token is None] == [3, 5]


@pytest.mark.parametrize("way", ["everything", "some", "a nucleus", "likely ones", "all at once"])
def test_a_seed_means_the_same_with_kernels_and_without(kernels, way):
    logits, texts = _logits(1000), []
    for team in (kernels, None):
        draws = [Draws(Terms(limit=50, seed=at, **_WAYS[way]), [1], 1000, _CPU) for at in range(_ROWS)]
        texts.append([sample(logits.clone(), draws, team) for _ in range(50)])
    assert texts[0] == texts[1]
