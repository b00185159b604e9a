import json

import numpy as np
import pytest
import torch
from gguf import RopeScalingType
from transformers import AutoModelForCausalLM

from gateway.engine import LoadFailed
from tests.support.tiny_gguf import convert_file, make_tiny_gguf
from tests.support.tiny_models import make_tiny

LLAMA_31 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def make_llama(folder, **rope):
    """Write a tiny Llama whose positions turn so."""
    make_tiny("llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= rope
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def converted(file, tmp_path):
    return convert_file(file, tmp_path / "cache")


@torch.inference_mode()
def logits(folder, count=200):
    ids = torch.arange(5, 5 + count).unsqueeze(0)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits


@pytest.mark.parametrize(
    "rope",
    [
        pytest.param(LLAMA_31 | {"rope_theta": 500_000.0}, id="llama-3.1"),
        pytest.param(LLAMA_31 | {"factor": 32.0, "original_max_position_embeddings": 64}, id="llama3 of another size"),
        pytest.param(LLAMA_31 | {"original_max_position_embeddings": 128, "high_freq_factor": 8.0}, id="llama3 fitted"),
        pytest.param(LINEAR, id="linear"),
        pytest.param(YARN, id="yarn"),
    ],
)
def test_scaled_positions_are_those_of_the_model_that_the_file_was_made_from(tmp_path, rope):
    plain = logits(make_llama(tmp_path / "model"))
    original = logits(make_llama(tmp_path / "model", **rope))
    file = make_tiny_gguf(tmp_path / "model", tmp_path / "made.gguf")
    found = logits(converted(file, tmp_path))
    assert torch.allclose(found, original, atol=1e-3)
    assert not torch.allclose(plain, original, atol=1e-2)


def test_factors_of_one_scale_nothing(tmp_path):
    folder = make_llama(tmp_path / "model")
    ones = np.ones(8, dtype=np.float32)
    file = make_tiny_gguf(folder, tmp_path / "made.gguf", more=lambda gguf: gguf.add_tensor("rope_freqs.weight", ones))
    config = json.loads((converted(file, tmp_path) / "config.json").read_text())
    assert config["rope_parameters"]["rope_type"] == "default"


def add(*writes):
    return lambda gguf: [getattr(gguf, name)(*values) for name, *values in writes]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (add(("add_tensor", "rope_freqs.weight", np.linspace(1, 3, 8, dtype=np.float32))), "are not Llama 3's"),
        (add(("add_tensor", "rope_factors_long.weight", np.ones(8, dtype=np.float32))), "longrope"),
        (add(("add_rope_scaling_type", RopeScalingType.LONGROPE), ("add_rope_scaling_factor", 4.0)), "type 'longrope'"),
        (add(("add_rope_scaling_type", RopeScalingType.YARN), ("add_rope_scaling_factor", 4.0)), "type 'yarn'"),
        (add(("add_rope_scaling_alpha", 2.0)), "scaling.alpha"),
    ],
)
def test_positions_that_cannot_be_rebuilt_are_refused(tmp_path, more, why):
    file = make_tiny_gguf(make_llama(tmp_path / "model"), tmp_path / "made.gguf", more=more)
    with pytest.raises(LoadFailed, match=f"positions of the GGUF file 'made.gguf' cannot be rebuilt: .*{why}"):
        converted(file, tmp_path)
