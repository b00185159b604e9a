"""A configuration whose sizes its weights cannot have is refused before anything is built."""

import json
import resource
import shutil

import pytest
import torch

from gateway.engine import LoadFailed
from gateway_hf.loading import pretrained, sources
from gateway_hf.loading.checks import check_folder
from gateway_hf.loading.sizes import check_counts
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny("llama"), tmp_path / "model")


def change(folder, **entries):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**8), ("n_layer", 10**300), ("num_local_experts", 10**8), ("num_hidden_layers", 1e9)],
)
@pytest.mark.parametrize("nested", [False, True])
def test_more_layers_or_experts_than_the_weights_can_have_are_refused_at_once(folder, monkeypatch, key, value, nested):
    change(folder, **({"text_config": {key: value}} if nested else {key: value}))
    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", None)
    with pytest.raises(
        LoadFailed, match=rf"the model 'model' says {key} = .* and its weights have \d+ tensors"
    ) as caught:
        sources.find(Settings(model=str(folder)), torch.float32)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gemma", "opt", "phi", "gpt_neox"])
def test_a_model_is_of_its_own_sizes(tiny, architecture):
    check_folder(tiny(architecture), "m")
    pretrained.read_model(Source(tiny(architecture), "m"), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("config", [{"num_hidden_layers": True}, {"n_layer": "12"}, {"layer_types": ["full"] * 9}, {}])
def test_what_counts_nothing_is_no_count(config):
    check_counts(config.items(), [(2, 3)], "m")


@pytest.mark.parametrize("sizes", [{"head_dim": 1 << 20}, {"hidden_size": 1 << 16, "intermediate_size": 1 << 17}])
def test_a_model_of_far_more_numbers_than_its_weights_is_refused_before_it_takes_memory(folder, sizes):
    change(folder, **sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LoadFailed, match=r"makes a model of [\d,]+ numbers, and its weights have [\d,]+"):
        pretrained.read_model(Source(folder, "m"), torch.float32, torch.device("cpu"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
