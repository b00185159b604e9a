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
