"""A tied embedding is read from the head's panels, and says the same."""

import gc

import pytest
import torch
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig

from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.kernels import Format
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.tied import read_from_head, tied_tables
from gateway_hf.compute.trial import TRIAL_BLOCKS
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import drawn_model, numbers, seated

# No multiple of a panel's sixteen columns.
_VOCABULARY = 389
_SHAPE = {"vocab_size": _VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_SHAPE |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_TIED = {
    "llama": LlamaConfig(**_SHAPE, tie_word_embeddings=True),
    "gemma": Gemma3TextConfig(**_SHAPE, head_dim=16, sliding_window=64),  # multiplies what it looks up
    "gpt2": GPT2Config(vocab_size=_VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=128, eos_token_id=2),
}
_FORMS = [(Format.FLOAT32, torch.float32), (Format.BFLOAT16, torch.bfloat16)]


def _kept(fitted):
    """Count the bytes of the table that the embedding keeps."""
    return fitted.forward._model.get_input_embeddings().weight.nbytes


@torch.inference_mode()
def _logits(fitted, tokens):
    sequence = seated(tokens, [0, 1])
    return fitted.forward.logits([Chunk(sequence, len(tokens))])[0]


@pytest.mark.parametrize(("form", "dtype"), _FORMS)
@pytest.mark.parametrize("columns", [389, 16, 3])
def test_lines_of_a_packed_weight_are_those_of_the_weight(kernels, form, dtype, columns):
    weight = torch.randn(columns, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed = Packed(weight, None, form, kernels)
    wanted = torch.tensor([columns - 1, 0, columns // 2, 0])
    assert torch.equal(packed.lines(wanted), weight[wanted])
    assert packed.lines(wanted[:0]).shape == (0, 48)


@pytest.mark.parametrize(("form", "dtype"), _FORMS)
@pytest.mark.parametrize("name", _TIED)
def test_a_tied_model_keeps_no_table_and_says_the_same_to_the_bit(kernels, monkeypatch, form, dtype, name):
    tokens = [_VOCABULARY - 1, 0, *numbers(20)]
    fitted = fit(lambda: drawn_model(_TIED[name], dtype), Means(TRIAL_BLOCKS, kernels, form))
    said, again = _logits(fitted, tokens), _logits(fitted, tokens)
    assert _kept(fitted) == 0
    monkeypatch.setattr("gateway_hf.compute.changes.tied_tables", lambda _: {})
    whole = fit(lambda: drawn_model(_TIED[name], dtype), Means(TRIAL_BLOCKS, kernels, form))
    assert _kept(whole) == _VOCABULARY * 64 * dtype.itemsize
    assert torch.equal(said, _logits(whole, tokens))
    assert torch.equal(said, again)


def test_a_model_whose_embedding_is_its_own_keeps_it(kernels):
    config = LlamaConfig(**_SHAPE, tie_word_embeddings=False)
    fitted = fit(lambda: drawn_model(config, torch.float32), Means(TRIAL_BLOCKS, kernels, Format.FLOAT32))
    assert _kept(fitted) == _VOCABULARY * 64 * 4


def test_a_head_of_few_bits_leaves_the_table(kernels):
    fitted = fit(lambda: drawn_model(_TIED["llama"], torch.float32), Means(TRIAL_BLOCKS, kernels, Format.INT8))
    assert _kept(fitted) == _VOCABULARY * 64 * 4


def test_a_table_that_a_third_module_has_as_well_is_kept():
    model = drawn_model(_TIED["llama"], torch.float32)
    embedding = model.get_input_embeddings()
    assert tied_tables(model) == {embedding.weight.data_ptr(): embedding}
    model.beside = torch.nn.Linear(1, 1)
    model.beside.weight = embedding.weight
    assert not tied_tables(model)


class _Numbered(torch.nn.Embedding):
    """Adds to what it looks up something of the token's own number."""

    def forward(self, input):  # noqa: A002 - the library's name
        return super().forward(input) + input[..., None]


@torch.inference_mode()
def test_an_embedding_that_would_make_other_numbers_keeps_its_table(kernels):
    embedding = _Numbered(40, 16, padding_idx=3)
    ids = torch.tensor([[5, 39], [0, 3]])
    said = embedding(ids)
    assert not read_from_head(embedding, Packed(embedding.weight.data, None, Format.FLOAT32, kernels))
    assert torch.equal(embedding(ids), said)
    assert embedding.padding_idx == 3


@torch.inference_mode()
def test_a_head_in_another_format_leaves_the_table(kernels):
    embedding = torch.nn.Embedding(40, 16)
    embedding.weight.data = embedding.weight.data.bfloat16().float()
    assert not read_from_head(embedding, Packed(embedding.weight.data, None, Format.BFLOAT16, kernels))
    assert embedding.weight.shape == (40, 16)


def test_the_table_is_freed(kernels):
    embedding = torch.nn.Embedding(40, 16)
    table = embedding.weight.data.untyped_storage()
    address = table.data_ptr()
    del table
    assert read_from_head(embedding, Packed(embedding.weight.data, None, Format.FLOAT32, kernels))
    gc.collect()
    # By their own types: what an object of `torch.distributed` says of its class is a warning.
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    alive = [each for each in tensors if each.data_ptr() == address]
    assert alive == []
