import json
import logging
import math
import threading
from functools import partial

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.engine import Completion, LoadFailed
from gateway_hf.compute import fitting, native
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import BLOCK, Format
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.panel_cache import PanelCache
from gateway_hf.compute.trial import TRIAL_BLOCKS, Trial
from gateway_hf.loading import weights
from gateway_hf.settings import Settings
from tests.support.hf_engine import BUILTIN_DTYPE, builtin_folder, read
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_models import ARCHITECTURES, CHAT_ARCHITECTURES, CONTEXT, VOCABULARY, make_tiny


@pytest.fixture
def folder(tmp_path):
    return make_tiny("llama", tmp_path / "tiny-llama")


def load(model, **settings):
    return weights.load(Settings(model=str(model), dtype="float32", **settings))


def refusal(model):
    with pytest.raises(LoadFailed) as caught:
        load(model)
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_of_each_architecture_loads(tiny, architecture):
    loaded = load(tiny(architecture))
    assert (loaded.context_window, loaded.vocabulary) == (CONTEXT, VOCABULARY)
    assert (loaded.device, loaded.dtype) == ("cpu", "float32")
    assert loaded.text.has_chat == (architecture in CHAT_ARCHITECTURES)
    assert loaded.eos_ids == ({2, 4} if loaded.text.has_chat else {2})
    assert not loaded.forward._model.training
    assert all(weight.dtype is torch.float32 for weight in loaded.forward._model.parameters())


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
def test_a_second_load_maps_the_weights_that_the_first_packed(kernels, folder, tmp_path, monkeypatch, quantize):
    def packed(*_):
        raise AssertionError("a weight is packed")

    monkeypatch.setattr(weights, "PanelCache", partial(PanelCache, least=0))
    own = {"cache_folder": str(tmp_path / "cache"), "quantize": quantize}
    monkeypatch.setattr(native, "library", lambda _: kernels._library)
    first = load(folder, **own)
    for thread in threading.enumerate():
        if thread.name == "panels":
            thread.join()
    with monkeypatch.context() as patched:
        patched.setattr(Packed, "__init__", packed)
        patched.setattr("gateway_hf.loading.few_bits.round_weights", packed)
        second = load(folder, **own)
    for loaded in (first, second):
        assert any(isinstance(module, FusedLayer) for module in loaded.forward._model.modules())
    assert any(tmp_path.glob("cache/tiny-llama-panels-*"))


def test_a_model_is_called_by_its_folder_and_on_demand_otherwise(folder):
    assert load(folder).name == "tiny-llama"
    renamed = load(f"{folder}/", served_name="mine")
    assert (renamed.name, renamed.aliases) == ("mine", ("tiny-llama",))


def test_a_context_can_be_lowered_and_never_raised(folder):
    assert load(folder, context_window=100).context_window == 100
    assert load(folder, context_window=1000).context_window == CONTEXT


def test_the_threads_are_torchs_where_there_are_no_kernels(folder):
    load(folder, threads=3, kernels="off")
    assert torch.get_num_threads() == 3


def test_beside_the_kernels_team_torch_has_one_thread(folder, kernels):
    load(folder, threads=3)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("tokens", [1, 16, 100, 1000])
def test_the_cache_has_room_for_what_is_asked_and_bounds_the_context(folder, tokens):
    loaded = load(folder, cache_tokens=tokens)
    assert loaded.context_window == min(tokens, CONTEXT)
    assert loaded.blocks.count * loaded.blocks.size >= tokens
    assert loaded.blocks.count >= TRIAL_BLOCKS
    assert loaded.forward._attention.cache.nbytes == loaded.blocks.count * BLOCK * 2 * 2 * 2 * 16 * 4


def test_the_size_of_the_cache_is_said_at_the_start(folder, caplog):
    with caplog.at_level(logging.INFO, "gateway_hf"):
        load(folder, cache_tokens=(1 << 14) - 16)
    assert "the cache of keys and values holds 16384 tokens in at most 8 MiB" in caplog.text


@pytest.mark.parametrize("few", ["int8", "int4"])
def test_few_bits_are_said_and_give_another_fingerprint(folder, kernels, few):
    loaded = load(folder, quantize=few)
    assert loaded.dtype == f"{few} float32"
    assert loaded.fingerprint != load(folder).fingerprint


@pytest.mark.parametrize("kernels_are", ["auto", "off"])
def test_keys_and_values_in_8_bits_are_said_and_take_less_room(folder, kernels, kernels_are, caplog):
    with caplog.at_level(logging.INFO, "gateway_hf"):
        loaded = load(folder, kernels=kernels_are, kv_dtype="int8", cache_tokens=(1 << 14) - 16)
    assert loaded.dtype == "float32, keys and values int8"
    assert "holds 16384 tokens in at most 2 MiB" in caplog.text  # 8 in float32
    assert loaded.fingerprint != load(folder, kernels=kernels_are).fingerprint


def test_packed_weights_are_kept_by_what_keys_and_values_are(folder, kernels, monkeypatch):
    origins = []

    class Noted(weights.PanelCache):
        def __init__(self, folder, name, origin, most):
            super().__init__(folder, name, origin, most)
            origins.append(origin)

    monkeypatch.setattr(weights, "PanelCache", Noted)
    for kept in ("auto", "int8", "auto"):
        load(folder, quantize="int8", kv_dtype=kept)
    assert origins[0] == origins[2] != origins[1]


def test_four_bits_are_those_that_the_layers_compute_with(folder, kernels):
    forward = load(folder, quantize="int4").forward
    assert {layer.struct.qkv.format for layer in forward._model.model.layers} == {Format.INT4}
    assert forward._model.lm_head._packed.struct.format == Format.INT8


@pytest.mark.parametrize("few", ["int8", "int4"])
def test_the_head_has_whole_bytes_where_layers_have_narrow_ones(folder, kernels, few, monkeypatch):
    for place in ("packed", "fused"):
        monkeypatch.setattr(f"gateway_hf.compute.{place}.prefers_narrow", lambda: True)
    forward = load(folder, quantize=few).forward
    assert not forward._model.lm_head._packed.struct.narrow
    assert [layer.struct.qkv.narrow for layer in forward._model.model.layers] == [few == "int8"] * 2


def test_the_dtype_is_the_one_asked_for(folder):
    loaded = weights.load(Settings(model=str(folder), dtype="bfloat16"))
    assert loaded.dtype == "bfloat16"
    # The last norm computes in float32 behind fused layers; what is large is not.
    assert {weight.dtype for weight in loaded.forward._model.parameters() if weight.dim() > 1} == {torch.bfloat16}


def test_what_answers_depend_on_changes_the_fingerprint(folder):
    first = load(folder).fingerprint
    assert load(folder).fingerprint == first
    assert weights.load(Settings(model=str(folder), dtype="bfloat16")).fingerprint != first
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert load(folder).fingerprint != first


def test_a_missing_weight_is_never_made_up(folder):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert "lacks 1 of its weights" in refusal(folder)


def change_config(folder, **entries):
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | entries))


def test_weights_of_another_shape_are_refused(folder):
    change_config(folder, intermediate_size=100)
    assert "do not fit together" in refusal(folder)


@pytest.mark.parametrize("kind", ["t5", "no-such-type", None, ["llama"]])
def test_a_type_that_writes_no_text_is_refused(folder, kind):
    change_config(folder, model_type=kind)
    assert "knows no text model" in refusal(folder)


@pytest.mark.parametrize("content", ["{}", "{", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    assert "tokenizer of the model 'tiny-llama'" in refusal(folder)


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing-here", "missing.gguf"])
def test_a_path_that_leads_nowhere_is_refused(model):
    assert "/no/such" not in refusal(model)


def test_a_gguf_file_gives_the_model_it_was_made_from(folder, tmp_path):
    file = make_tiny_gguf(folder, tmp_path / "made.gguf")
    loaded = load(file, cache_folder=str(tmp_path / "cache"), kernels="off")
    assert loaded.name == "made"
    assert loaded.note == "quantized weights (GGUF), de-quantized to float32"
    ids = loaded.text.encode(Completion("The capital of France is 42"))
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0, -1]
    (found,) = read(loaded.forward, ids, range(4))
    assert torch.allclose(expected, found, atol=1e-4)


def test_the_splitter_that_its_file_names_splits_digits(folder, tmp_path):
    file = make_tiny_gguf(folder, tmp_path / "made.gguf", pre="smollm")
    text = load(file, cache_folder=str(tmp_path / "cache"), kernels="off").text
    known = AutoTokenizer.from_pretrained(folder)
    assert text.encode(Completion("42")) == known.convert_tokens_to_ids(["4", "2"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, value, kernels):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = value
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(LoadFailed) as caught:
        load(folder, kernels=kernels)
    told = "there is NaN or infinity in model.layers.1.mlp.down_proj.weight; download or convert it again"
    assert caught.value.message == f"the model computes no numbers: {told}"


def test_a_number_format_that_a_model_overflows_is_named(folder, monkeypatch):
    monkeypatch.setattr(Trial, "has_numbers", False)
    monkeypatch.setattr(fitting, "_batched", lambda *_: 1 / 0)
    assert refusal(folder) == "the model computes no numbers: they are too large for float32; try another dtype"


def test_the_builtin_model_says_what_it_is():
    loaded = weights.load(Settings(kernels="off"))
    assert loaded.name == "smollm2-135m-instruct"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in loaded.aliases
    assert loaded.note == f"4-bit weights (Q4_1), de-quantized to {BUILTIN_DTYPE}".replace("torch.", "")
    assert (loaded.context_window, loaded.vocabulary, loaded.eos_ids) == (8192, 49152, {2})
    assert (loaded.defaults.temperature, loaded.defaults.top_p) == (0.2, 0.9)
    head, embeddings = loaded.forward._model.lm_head, loaded.forward._model.model.embed_tokens
    assert head.weight.data_ptr() == embeddings.weight.data_ptr()


def test_dropping_a_model_gives_its_memory_back():
    memory, folder = psutil.Process().memory_info, builtin_folder()
    weights.release()
    before = memory().rss
    loaded = weights.load(Settings(model=str(folder), dtype="float32"))
    weights.settle()
    held = memory().rss - before
    del loaded
    weights.release()
    left = memory().rss - before
    assert held > 400 << 20
    assert left < held / 4
