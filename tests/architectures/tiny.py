"""A tiny, random model of any causal type: the type's own configuration with every size that it has turned down."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.support.tiny_models import VOCABULARY, make_tokenizer

KINDS = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
CONTEXT = 1024
WINDOW = 24
_MOST_PARAMETERS = 30_000_000

# What the types call their sizes; each gets those that it has.
_SIZES: dict[str, object] = {"vocab_size": VOCABULARY, "is_decoder": True, "tie_word_embeddings": False}
_SIZES |= dict.fromkeys(("pad_token_id", "im_token_id"), 0) | {"bos_token_id": 1, "eos_token_id": 2}
_SIZES |= dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 64)
_SIZES |= dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 4)
_SIZES |= dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4)
_SIZES |= {"encoder_layers": 1, "encoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
_SIZES |= dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff"), 128)
_SIZES |= dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32)
_SIZES |= dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4)
_SIZES |= {"num_experts_per_tok": 2, "n_shared_experts": 1, "vocab_size_per_layer_input": VOCABULARY}
_SIZES |= dict.fromkeys(("sliding_window", "attention_chunk_size", "attention_window_size", "index_topk"), WINDOW)
_SIZES |= {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 16}
_SIZES |= dict.fromkeys(
    ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len", "seq_length"), CONTEXT
)
_SIZES |= {"max_target_positions": CONTEXT, "rotary_dim": 8} | dict.fromkeys(("n_group", "num_group", "topk_group"), 1)
# The shape of Qwen2-0.5B, with a smaller vocabulary: its head would be a third of all.
_LARGE = _SIZES | {"vocab_size": 32_768, "head_dim": 64, "num_key_value_heads": 2, "rotary_dim": 32}
_LARGE |= dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 896)
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_LARGE |= dict.fromkeys(_LAYERS, 24)
_LARGE |= dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 14)
_LARGE |= dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff"), 4864)
_LARGE |= dict.fromkeys(("sliding_window", "attention_chunk_size", "attention_window_size"), 512)
# A row's experts are together as wide as the feed-forward part of a model without.
_LARGE |= dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 64)
_LARGE |= {"num_experts_per_tok": 8, "moe_intermediate_size": 608}
_LARGE_OWN: dict[str, dict[str, object]] = {
    "glm4_moe": {"num_experts_per_tok": 7},
    "gpt_oss": {"num_local_experts": 32, "num_experts": 32, "num_experts_per_tok": 4, "intermediate_size": 1216},
    "granitemoe": {"num_local_experts": 32, "num_experts": 32, "intermediate_size": 608},
    "mixtral": {"num_local_experts": 8, "num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 2432},
    "olmoe": {"intermediate_size": 608, "num_key_value_heads": 14},
    "qwen2_moe": {"num_experts": 32, "num_experts_per_tok": 4, "shared_expert_intermediate_size": 2432},
}
# The part of a model that sees, where it cannot do without.
_SEES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32}
# What a type needs beside, or otherwise: its own checks say so.
_OWN: dict[str, dict[str, object]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_chunk_size": 32},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}},
    "cpmant": {"dim_head": 16, "dim_ff": 128, "prompt_length": 8, "prompt_types": 4, "segment_types": 4},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    # All of its heads that choose what is seen: of four, one key in sixteen has no score, and a tie goes by chance.
    "dots3_note_text": {"num_key_value_heads": 4, "shared_experts_intermediate_size": 32}
    | {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 32, "swa_kv_lora_rank": 32}
    | {"swa_head_dim": 32, "swa_qk_nope_head_dim": 16, "swa_v_head_dim": 16, "index_head_dim": 32},
    "gemma3n_text": {"num_hidden_layers": 10, "num_kv_shared_layers": 5, "layer_types": None},
    "gemma4_text": {"hidden_size_per_layer_input": 16},
    "git": {"vision_config": _SEES},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "mamba_n_heads": 8, "mamba_chunk_size": 32},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_heads": 4,
        "linear_head_dim": 16,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "chunk_size": 32},
    "reformer": {
        "attn_layers": ["local", "lsh"] * 2,
        "hash_seed": 1,
        "axial_pos_embds": False,
        "feed_forward_size": 128,
    },
    "xlm": {"causal": True, "mask_token_id": 5},
    "xlstm": {"qk_dim_factor": 1.0},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "n_mamba_heads": 8, "mamba_d_state": 16, "chunk_size": 32},
    "zaya": {"num_experts_per_tok": 1},
}


class NotBuilt(Exception):
    """A type that cannot be made tiny: the message says why."""


def configured(kind: str, shape: Mapping[str, object] = _SIZES, **changes: object) -> PreTrainedConfig:
    """Return the tiny configuration of a type, or that of another shape."""
    config = CONFIG_MAPPING[kind]
    known = {*getattr(config, "__dataclass_fields__", ()), *config.attribute_map}
    if {"text_config", "vision_config"} <= known:
        raise NotBuilt("more than text")
    sizes = {name: size for name, size in shape.items() if name in known}
    if "kv_lora_rank" in known:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    return config(**sizes | _OWN.get(kind, {}) | changes)


def large(kind: str, layers: int | None = None) -> PreTrainedConfig:
    """Return the configuration of a type at the shape of half a billion parameters that a row is multiplied by.

    With `layers`, of so many, in place of 24.
    """
    shape = _LARGE | ({} if layers is None else dict.fromkeys(_LAYERS, layers))
    return configured(kind, shape, **_LARGE_OWN.get(kind, {}))


def made(config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """Return a random model in float32, its weights so wide that the likeliest token is no accident."""
    with torch.device("meta"):
        count = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if count > _MOST_PARAMETERS:
        raise NotBuilt(f"{count} parameters remain")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    return model


def make(kind: str, folder: Path, **changes: object) -> Path:
    """Write the folder of a tiny model of a type; raise `NotBuilt`."""
    try:
        model = made(configured(kind, **changes))
    except NotBuilt:
        raise
    except Exception as error:
        raise NotBuilt(" ".join(str(error).split())[:150]) from error
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer = make_tokenizer(begins=False, chats=False)
    tokenizer.model_max_length = CONTEXT
    tokenizer.save_pretrained(folder)
    return folder
