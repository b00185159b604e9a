import pytest
import torch

from gateway_hf.compute.kernels import BLOCK
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.settings import SCALE_BYTES

_CPU = torch.device("cpu")


@pytest.mark.parametrize("native", [True, False])
def test_a_layer_is_made_when_it_is_first_seen_and_once(kernels, native):
    cache = KvCache(8, torch.bfloat16, _CPU, kernels if native else None)
    assert cache.nbytes == 0
    first = cache.layer(0, 2, 16)
    assert cache.layer(0, 2, 16) is first
    assert cache.nbytes == 2 * 8 * BLOCK * 2 * 16 * 2
    assert cache.layer(1, 2, 16).data_ptr() != first.data_ptr()
    assert cache.nbytes == 2 * first.nbytes


def test_in_8_bits_a_token_has_a_scale_beside_its_numbers(kernels):
    for team in (kernels, None):
        cache = KvCache(8, torch.bfloat16, _CPU, team, rounded=True)
        assert cache.layer(0, 2, 64).dtype is torch.int8
        assert cache.nbytes == 2 * 8 * BLOCK * 2 * (64 + SCALE_BYTES)


def test_kernels_round_a_head_up_to_whole_lanes(kernels):
    assert KvCache(3, torch.float32, _CPU, kernels).layer(0, 1, 8).numel() == 3 * 2 * 16 * BLOCK


def test_pages_that_nobody_wrote_are_not_taken_from_the_system(kernels):
    psutil = pytest.importorskip("psutil")
    memory = psutil.Process().memory_info
    before = memory().rss
    room = KvCache(1 << 14, torch.float32, _CPU, kernels).layer(0, 8, 64)
    assert room.nbytes == 1 << 30
    assert memory().rss - before < 1 << 26


def _some_blocks(kernels, blocks=1 << 12, *, rounded=False):
    """Return a cache of two layers, the second of twice as many heads."""
    cache = KvCache(blocks, torch.float32, _CPU, kernels, rounded=rounded)
    return cache, [cache.layer(index, 4 << index, 16).view(blocks, -1) for index in range(2)]


@pytest.mark.parametrize("rounded", [False, True])
def test_memory_is_taken_ahead_piece_by_piece_and_what_is_used_is_left_alone(kernels, rounded):
    cache, layers = _some_blocks(kernels, rounded=rounded)
    for layer in layers:
        layer.fill_(1)
    pieces = 0
    while cache.take_ahead(3):
        pieces += 1
    assert pieces == sum(-(-(len(layer) - 3) * layer[0].nbytes // (2 << 20)) for layer in layers)
    assert all(bool((layer[:3] == 1).all()) and not layer[3:].any() for layer in layers)


def test_memory_that_was_taken_is_not_written_again(kernels):
    cache, layers = _some_blocks(kernels)
    while cache.take_ahead(1):
        pass
    layers[1][100:] = 2.0
    assert not cache.take_ahead(100)
    assert bool((layers[1][100:] == 2).all())


def test_the_next_blocks_of_all_layers_are_taken_before_those_behind_them(kernels):
    cache, layers = _some_blocks(kernels)
    for layer in layers:
        layer.fill_(1.0)
    for _ in range(3):
        assert cache.take_ahead(1)
    assert all(not layer[1:100].any() for layer in layers)
    assert all(bool(layer[-1].all()) for layer in layers)


def test_no_more_is_taken_ahead_than_may_soon_be_wanted(kernels):
    cache = KvCache(1 << 16, torch.float32, _CPU, kernels)
    cache.layer(0, 8, 64)
    pieces = 0
    while cache.take_ahead(1):
        pieces += 1
    assert pieces == (128 << 20) // (2 << 20)


def test_of_a_cache_that_nothing_uses_none_is_taken(kernels):
    assert not _some_blocks(kernels)[0].take_ahead(0)
    assert not KvCache(4, torch.float32, _CPU, kernels).take_ahead(1)
    assert not _some_blocks(None)[0].take_ahead(1)
