import json
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig, GPT2Config, LlamaConfig

from gateway.engine import LoadFailed, Sampling
from gateway_hf.loading import metadata as facts


def model_of(config, **generation):
    return SimpleNamespace(config=config, generation_config=GenerationConfig(**generation))


def tokenizer_of(limit=10**30, eos=None):
    return SimpleNamespace(model_max_length=limit, eos_token_id=eos)


@pytest.mark.parametrize(
    ("config", "limit", "window"),
    [
        (LlamaConfig(max_position_embeddings=77), 10**30, 77),
        (GPT2Config(n_positions=55), 10**30, 55),
        (SimpleNamespace(), 512, 512),
        (SimpleNamespace(), 10**30, 2048),
    ],
)
def test_the_context_is_the_configs_else_the_tokenizers(config, limit, window):
    if isinstance(config, SimpleNamespace):
        config = SimpleNamespace(get_text_config=SimpleNamespace)
    assert facts.context_window(model_of(config), tokenizer_of(limit)) == window


_HEADS = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
_HUGE = {"num_hidden_layers": 128, "hidden_size": 16384, "num_attention_heads": 128}


@pytest.mark.parametrize(
    ("config", "asked", "window", "tokens"),
    [
        (LlamaConfig(**_HEADS), 100, 2048, 100),
        (LlamaConfig(**_HEADS), 0, 2048, 16_384),
        (LlamaConfig(**_HEADS), 0, 50_000, 50_000),
        (LlamaConfig(**_HEADS, num_key_value_heads=1, head_dim=1024), 0, 1 << 30, (4 << 30) // (2 * 2 * 1024 * 4)),
        (LlamaConfig(**_HUGE), 0, 8192, (4 << 30) // (2 * 128 * 16384 * 4)),
        (GPT2Config(n_layer=2, n_embd=64, n_head=4), 0, 1024, 16_384),
    ],
)
def test_the_cache_holds_the_context_or_the_usual_within_bounds(config, asked, window, tokens):
    model = SimpleNamespace(config=config, dtype=torch.float32)
    assert facts.cache_tokens(model, asked, window) == tokens


def test_in_8_bits_more_tokens_have_room_in_as_many_bytes():
    model = SimpleNamespace(config=LlamaConfig(**_HUGE), dtype=torch.bfloat16)
    assert facts.cache_tokens(model, 0, 8192, rounded=True) == (4 << 30) // (2 * 128 * (16384 + 128 * 4))


@pytest.mark.parametrize(
    ("generation", "config", "tokenizer", "ids"),
    [
        ([2, 4], 7, 9, {2, 4}),
        (3, 7, 9, {3}),
        (None, 7, 9, {7}),
        (None, None, 9, {9}),
        (None, None, None, set()),
        (0, 7, 9, {0}),
    ],
)
def test_the_end_is_the_generation_configs_else_the_configs_else_the_tokenizers(generation, config, tokenizer, ids):
    model = model_of(LlamaConfig(eos_token_id=config), eos_token_id=generation)
    assert facts.eos_ids(model, tokenizer_of(eos=tokenizer), 10) == ids


@pytest.mark.parametrize("beyond", [10, 1 << 40, -1])
def test_an_end_beyond_the_vocabulary_is_left_out_and_said(caplog, beyond):
    model = model_of(LlamaConfig(), eos_token_id=[9, beyond])
    assert facts.eos_ids(model, tokenizer_of(), 10) == {9}
    assert str(beyond) in caplog.text


@pytest.mark.parametrize(
    ("config", "defaults"),
    [
        (None, Sampling()),
        ({}, Sampling()),
        ({"temperature": 0.7, "top_p": 0.9}, Sampling()),
        ({"do_sample": False, "temperature": 0.7}, Sampling()),
        ({"do_sample": True}, Sampling(temperature=1.0)),
        (
            {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.1},
            Sampling(temperature=0.7, top_p=0.8, top_k=20, min_p=0.1),
        ),
        ({"do_sample": True, "temperature": None, "top_k": None}, Sampling(temperature=1.0)),
        ({"repetition_penalty": 1.1}, Sampling(repetition_penalty=1.1)),
        ({"max_new_tokens": 64, "max_length": 100}, Sampling(max_tokens=64)),
        ({"max_length": 100}, Sampling(max_length=100)),
        ({"max_length": 20}, Sampling()),
    ],
)
def test_only_what_a_generation_config_says_is_a_default(tmp_path, config, defaults):
    if config is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(config))
    assert facts.sampling_defaults(tmp_path, "m") == defaults


@pytest.mark.parametrize(
    ("said", "default"),
    [
        ({"do_sample": True, "top_k": -1}, Sampling(temperature=1.0, top_k=0)),
        ({"do_sample": True, "top_k": -5}, Sampling(temperature=1.0)),
        ({"do_sample": True, "min_p": 2}, Sampling(temperature=1.0)),
        ({"do_sample": True, "top_p": float("nan")}, Sampling(temperature=1.0)),
        ({"repetition_penalty": 0}, Sampling()),
        ({"max_new_tokens": 0}, Sampling()),
    ],
)
def test_a_default_that_no_request_could_ask_for_is_left_out_and_said(tmp_path, caplog, said, default):
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    assert facts.sampling_defaults(tmp_path, "m") == default
    assert ("left out" in caplog.text) == (said.get("top_k") != -1)


@pytest.mark.parametrize("content", ["{", '{"repetition_penalty": "much"}', '{"do_sample": true, "top_k": 1.5}'])
def test_a_generation_config_that_makes_no_sense_is_refused(tmp_path, content):
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(LoadFailed):
        facts.sampling_defaults(tmp_path, "m")
