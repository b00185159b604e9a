"""Passes in short say what the model's own code says, bit for bit; where that does more, it is kept."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    SmolLM3Config,
)

from gateway_hf.compute import fitting
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.forward import BatchedForward
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.short_pass import ShortForward
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, seated

_SHAPE = {"vocab_size": 384, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}
_SHORT = {
    "llama": LlamaConfig(**_SHAPE),
    "qwen3": Qwen3Config(**_SHAPE, head_dim=16),
    "two ropes": Gemma3TextConfig(
        **_SHAPE, head_dim=16, sliding_window=16, layer_types=["sliding_attention"] * 2 + ["full_attention"]
    ),
    "layers that do not turn": SmolLM3Config(**_SHAPE, no_rope_layers=[1, 0, 1]),
}
_WHOLE = {
    "positions are added": GPT2Config(vocab_size=384, n_embd=64, n_layer=2, n_head=4, n_positions=128),
    "logits are capped": Gemma2Config(**_SHAPE, head_dim=16),
}


def _fitted(config, kernels):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    return fit(lambda: copy.deepcopy(model), Means(12, kernels, Format.FLOAT32)).forward


@torch.inference_mode()
def _said(forward):
    """Return the logits of a pass with an answer, a prompt that ends, and one that does not."""
    answer, prompt, longer = seated(numbers(20), [0, 1]), seated(numbers(9, 3), [2]), seated(numbers(40, 5), [3, 4, 5])
    forward.logits([Chunk(answer, 19)])
    answer.computed = 19
    logits, counts = forward.logits([Chunk(answer, 1), Chunk(prompt, 9), Chunk(longer, 30)])
    assert counts == [1, 1, 0]
    return logits


@pytest.mark.parametrize("config", _SHORT.values(), ids=_SHORT)
def test_it_says_the_same_to_the_bit(config, kernels, monkeypatch):
    short = _fitted(config, kernels)
    assert isinstance(short, ShortForward)
    monkeypatch.setattr(fitting, "shorten", lambda _model, whole, *_: whole)
    whole = _fitted(config, kernels)
    assert isinstance(whole, BatchedForward)
    assert torch.equal(_said(short), _said(whole))


@pytest.mark.parametrize("config", _WHOLE.values(), ids=_WHOLE)
def test_a_model_that_does_more_between_its_parts_keeps_its_own_code(config, kernels):
    assert isinstance(_fitted(config, kernels), BatchedForward)


def test_every_layer_counts_as_it_begins(kernels):
    forward = _fitted(_SHORT["llama"], kernels)
    before = forward.steps.count
    _said(forward)
    assert forward.steps.count - before == 2 * 3
