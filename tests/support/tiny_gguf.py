"""A real GGUF file, made on the spot from a tiny Llama folder as llama.cpp's converter would."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway_hf.loading import convert

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def make_tiny_gguf(
    folder: Path,
    file: Path,
    *,
    pre: str = "smollm",
    kind: gguf.GGMLQuantizationType | None = None,
    more: Callable[[gguf.GGUFWriter], None] = lambda _: None,
) -> Path:
    """Write the tiny Llama in `folder` as `file`, in float32.

    `pre` names the way its text is split, `kind` the blocks of its linear layers; `more` adds to what a
    converter writes.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    writer = gguf.GGUFWriter(file, "llama")
    _write_shape(writer, model.config)
    _write_positions(writer, model.config)
    _write_tokenizer(writer, AutoTokenizer.from_pretrained(folder), pre)
    for name, weight in model.state_dict().items():
        numbers = _reordered(name, weight.numpy(), model.config)
        if kind is None or name.endswith("norm.weight"):
            writer.add_tensor(_renamed(name), numbers)
        else:
            writer.add_tensor(_renamed(name), gguf.quantize(numbers, kind), raw_dtype=kind)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def convert_file(file: Path, cache: Path) -> Path:
    """Convert a file into the cache folder and return the folder that became of it, in float32."""
    return convert.converted(
        file, convert.Conversion(torch.float32), convert.ConversionCache(cache, 1 << 40), convert.leave
    ).folder


def _write_shape(writer: gguf.GGUFWriter, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _write_positions(writer: gguf.GGUFWriter, config) -> None:
    """Say how positions are scaled: by a type and its numbers, for Llama 3 by a factor for each frequency."""
    rope = config.rope_parameters
    kind = rope["rope_type"]
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array(_llama3_factors(rope, config.head_dim), dtype=np.float32))
    elif kind != "default":
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def _llama3_factors(rope, size: int) -> list[float]:
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    factors = []
    for at in range(0, size, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (at / size)
        smooth = (rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"]
        )
        between = 1 / ((1 - smooth) / rope["factor"] + smooth)
        factors.append(1.0 if wavelength < high else rope["factor"] if wavelength > low else between)
    return factors


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer, pre: str) -> None:
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    kinds = {number: CONTROL if token.special else USER_DEFINED for number, token in added.items()}
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(pieces)
    writer.add_token_types([kinds.get(number, NORMAL) for number in range(len(pieces))])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def _renamed(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{_NAMES[stem]}.{kind}"
    number, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{number}.{_NAMES[part]}.{kind}"


def _reordered(name: str, weight: np.ndarray, config) -> np.ndarray:
    """Order the rows of queries and keys as llama.cpp rotates them: pairs side by side, not half a head apart."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
