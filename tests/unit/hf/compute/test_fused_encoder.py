"""Fused encoders make of each text what transformers make of it, alone and beside others."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from gateway_hf.compute import fused_encoder
from gateway_hf.compute.fused_encoder import FusedEncoder, fuse_encoder
from gateway_hf.compute.trial import Misfit
from gateway_hf.loading.builtin_embedding import locate
from tests.support.tiny_encoders import make_cross_encoder, make_encoder

BERTS = ("bert", "roberta", "xlm-roberta")
OTHERS = ("mpnet", "modernbert", "nomic", "qwen3")
LENGTHS = (60, 1, 17, 16, 33)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    return lambda kind: make_encoder(kind, tmp_path_factory.mktemp(kind))


def _inputs(model, lengths=LENGTHS):
    ids = torch.randint(
        3, model.config.vocab_size, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1)
    )
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids.where(mask, torch.tensor(0)), "attention_mask": mask.long()}


def _states(model, inputs):
    with torch.inference_mode():
        return model(**inputs).last_hidden_state[inputs["attention_mask"].bool()].float()


@pytest.mark.parametrize("kind", BERTS)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_it_says_what_the_models_own_layers_say(kernels, folder_of, kind, dtype, off):
    model = AutoModel.from_pretrained(folder_of(kind), dtype=dtype).eval()
    inputs = _inputs(model)
    said = _states(model, inputs)
    fuse_encoder(model, kernels)
    assert isinstance(model.encoder, FusedEncoder)
    found = _states(model, inputs)
    assert float(((found - said).norm(dim=1) / said.norm(dim=1)).max()) < off


def test_the_built_in_model_is_fused_and_says_the_same(kernels):
    model = AutoModel.from_pretrained(locate()).eval()
    inputs = _inputs(model, (200, 3, 128, 77))
    said = _states(model, inputs)
    fuse_encoder(model, kernels)
    torch.testing.assert_close(_states(model, inputs), said, rtol=0, atol=2e-5)


def test_a_text_gets_the_same_bits_whatever_its_company(kernels, folder_of):
    model = AutoModel.from_pretrained(folder_of("bert")).eval()
    fuse_encoder(model, kernels)
    inputs = _inputs(model)
    beside = _states(model, inputs).split(LENGTHS)
    for at, length in enumerate(LENGTHS):
        alone = {"input_ids": inputs["input_ids"][at : at + 1, :length]}
        assert torch.equal(_states(model, alone | {"attention_mask": torch.ones(1, length)}), beside[at])
        with torch.inference_mode():
            assert torch.equal(model(**alone).last_hidden_state[0], beside[at])  # without a mask


def test_masks_that_are_added_are_read_as_well(kernels, folder_of):
    model = AutoModel.from_pretrained(folder_of("bert"), attn_implementation="eager").eval()
    inputs = _inputs(model)
    said = _states(model, inputs)
    fuse_encoder(model, kernels)
    torch.testing.assert_close(_states(model, inputs), said, rtol=1e-4, atol=1e-4)


def test_a_classifier_keeps_its_head(kernels, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(make_cross_encoder("roberta", tmp_path)).eval()
    inputs = _inputs(model)
    with torch.inference_mode():
        said = model(**inputs).logits
        fuse_encoder(model, kernels)
        torch.testing.assert_close(model(**inputs).logits, said, rtol=1e-4, atol=1e-4)
    assert isinstance(model.roberta.encoder, FusedEncoder)


@pytest.mark.parametrize("kind", OTHERS)
def test_layers_of_other_kinds_are_left_as_they_are(kernels, folder_of, kind):
    model = AutoModel.from_pretrained(folder_of(kind)).eval()
    inputs = _inputs(model)
    said = _states(model, inputs)
    with pytest.raises(Misfit):
        fuse_encoder(model, kernels)
    assert torch.equal(_states(model, inputs), said)


def test_layers_with_another_activation_are_left_as_they_are(kernels, folder_of):
    model = AutoModel.from_pretrained(folder_of("bert"), hidden_act="mish").eval()
    with pytest.raises(Misfit, match="not BERT's"):
        fuse_encoder(model, kernels)


def test_fused_layers_that_say_something_else_are_taken_out_again(kernels, folder_of, monkeypatch):
    model = AutoModel.from_pretrained(folder_of("bert")).eval()
    stock = model.encoder
    monkeypatch.setattr(fused_encoder, "activation_of", lambda _: 0)  # takes a GELU for a SiLU
    with pytest.raises(Misfit, match="something else"):
        fuse_encoder(model, kernels)
    assert model.encoder is stock


def test_layers_with_a_part_besides_are_left_as_they_are(kernels, folder_of):
    model = AutoModel.from_pretrained(folder_of("bert")).eval()
    model.encoder.layer[1].output.gate = nn.Linear(32, 32)
    with pytest.raises(Misfit, match="not BERT's"):
        fuse_encoder(model, kernels)
