"""A norm is known by what it does, whatever it is called and however it holds its numbers."""

import pytest
import torch
from torch import nn
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

from gateway_hf.compute.kernels import NormKind
from gateway_hf.compute.norms import norm_of

_SIZE = 24
_NORMS = {
    "of squares": (LlamaRMSNorm(_SIZE, 0.1), (_SIZE,), NormKind.SQUARE),
    "that adds one to what it holds": (Gemma2RMSNorm(_SIZE, 1e-6), (_SIZE,), NormKind.SQUARE),
    "around the mean": (nn.LayerNorm(_SIZE, 1e-3), (_SIZE,), NormKind.CENTERED),
    "without a bias": (nn.LayerNorm(_SIZE, 1e-5, bias=False), (_SIZE,), NormKind.CENTERED),
    "without a weight": (OlmoLayerNorm(_SIZE), (_SIZE,), NormKind.CENTERED),
    "of heads": (CohereLayerNorm((3, _SIZE), 1e-5), (3, _SIZE), NormKind.CENTERED),
}


def _drawn(norm, dtype):
    with torch.no_grad():
        for weight in norm.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    return norm.to(dtype)


@pytest.mark.parametrize("name", _NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_norm_is_found_by_what_it_does(name, dtype):
    module, shape, kind = _NORMS[name]
    norm = _drawn(module, dtype)
    found = norm_of(norm, shape)
    assert found is not None
    assert found.kind is kind
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(2)) * 3 + 1
    assert torch.allclose(found(x), norm.float()(x), atol=1e-4, rtol=1e-4)
    order = torch.randperm(_SIZE, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(found.ordered(order)(x[..., order]), found(x)[..., order], atol=1e-5)


@pytest.mark.parametrize("module", [nn.Tanh(), nn.Softmax(-1), nn.Identity(), nn.Linear(_SIZE, _SIZE)], ids=repr)
def test_what_is_no_norm_is_not_found(module):
    assert norm_of(module, (_SIZE,)) is None


def test_a_norm_that_clamps_is_none():
    class Clamped(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x).clamp(-0.5, 0.5)

    assert norm_of(Clamped(_SIZE), (_SIZE,)) is None
