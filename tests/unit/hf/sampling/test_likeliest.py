"""The likeliest token of a row: the first of several, and a number that is none before all."""

import pytest
import torch

from gateway_hf.sampling.likeliest import find_likeliest


@pytest.mark.parametrize("columns", [1, 7, 64, 1000])
def test_it_is_the_one_that_torch_finds_of_parts_of_rows_too(columns):
    logits = torch.randn(9, 1001, generator=torch.Generator().manual_seed(0))
    for part in (logits[:, :columns], logits[:, -columns:], logits[::2, :columns]):
        assert torch.equal(find_likeliest(part), part.argmax(-1))


def test_the_first_of_several_is_found_and_what_is_no_number():
    logits = torch.zeros(3, 100)
    logits[1, 40] = logits[1, 60] = 1
    logits[2, 40], logits[2, 60] = torch.inf, torch.nan
    assert find_likeliest(logits).tolist() == [0, 40, 60]
