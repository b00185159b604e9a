"""Estimate the memory that a load takes, from files alone: torch is not imported for it, and nothing is fetched."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from gateway.engine import LoadFailed
from gateway_hf.compute.processor import BF16_FLAGS, processor_flags
from gateway_hf.loading.formats import MalformedFile, check_safetensors, read_gguf
from gateway_hf.settings import LARGEST_CACHE, SCALE_BYTES, USUAL_CACHE, Settings
from gateway_hf.task import find_task

# Python, torch, transformers and what an empty batch needs, in bytes.
_PROCESS = 750 << 20
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# What a GGUF file calls the parts of a configuration, behind the name of its architecture.
_GGUF_KEYS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
}
_WINDOWS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")


class ModelSizes(NamedTuple):
    """The numbers that a model's weights have, and its configuration, in the words of `config.json`."""

    weights: int
    config: Mapping[str, Any]


def estimate(settings: Settings) -> int | None:
    """Return the bytes that a load takes at most: the process, the weights, and the cache of keys and values.

    `None` for a model that is not here yet, that cannot be read, or that is for a GPU.
    """
    if settings.device.startswith("cuda"):
        return None
    if settings.draft is not None:
        alone = estimate(structs.replace(settings, draft=None))
        draft = estimate(structs.replace(settings, draft=None, model=settings.draft, revision=None, task="generate"))
        return None if alone is None or draft is None else alone + draft - _PROCESS
    try:
        sizes = _read(settings)
    except (LoadFailed, MalformedFile, OSError, ValueError):
        return None  # its load says why
    if sizes is None:
        return None
    size = _BYTES.get(settings.dtype) or (2 if BF16_FLAGS & processor_flags() else 4)
    weights = sizes.weights * size if settings.quantize == "none" else sizes.weights
    return _PROCESS + weights + (_cache_bytes(settings, sizes.config, size) if find_task(settings) == "generate" else 0)


def _read(settings: Settings) -> ModelSizes | None:
    """Read what the files say of a model; `None` where there are none."""
    from gateway_hf.loading import builtin, builtin_embedding  # noqa: PLC0415 - most models are no built-in ones

    model = settings.model
    if model == "builtin":
        return _read_gguf(builtin.locate())
    if model == "builtin-embedding":
        return _read_folder(builtin_embedding.locate())
    path = Path(model).expanduser()
    if model.endswith(".gguf"):
        return _read_gguf(path)
    folder = path if path.is_dir() else _cached(model, settings.revision)
    return None if folder is None else _read_folder(folder)


def _read_gguf(file: Path) -> ModelSizes:
    weights, values = read_gguf(file)
    named = {key.partition(".")[2]: value for key, value in values.items()}
    return ModelSizes(weights, {ours: named[theirs] for theirs, ours in _GGUF_KEYS.items() if theirs in named})


def _read_folder(folder: Path) -> ModelSizes:
    files = [file for file in folder.glob("*.safetensors") if file.name.startswith("model")]
    config = json.loads((folder / "config.json").read_bytes())
    shapes = [shape for file in files for shape in check_safetensors(file)]
    text = config.get("text_config")
    return ModelSizes(sum(map(math.prod, shapes)), text if isinstance(text, dict) else config)


def _cached(model: str, revision: str | None) -> Path | None:
    """Find the copy of a Hub id in the local cache; `None` where there is none."""
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415 - a local model does without

    home = Path(HF_HUB_CACHE, f"models--{model.replace('/', '--')}")
    named = home / "refs" / (revision or "main")
    commit = named.read_text().strip() if named.is_file() else revision or ""
    folder = home / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def _cache_bytes(settings: Settings, config: Mapping[str, Any], size: int) -> int:
    """Return what the cache of keys and values may come to hold; its memory is taken as it fills."""
    window = next((config[name] for name in _WINDOWS if isinstance(config.get(name), int)), 0)
    token = _token_bytes(config, None if settings.kv_dtype == "int8" else size)
    if settings.cache_tokens:
        return settings.cache_tokens * token
    window = min(window, settings.context_window or window)
    return min(max(window, USUAL_CACHE) * token, LARGEST_CACHE)


def _token_bytes(config: Mapping[str, Any], width: int | None) -> int:
    """Return how many bytes all layers keep of a token, in numbers of `width` bytes, or rounded where that is `None`.

    None where the configuration names no attention heads.
    """
    layers = config.get("num_hidden_layers") or config.get("n_layer") or 0
    queries = config.get("num_attention_heads") or config.get("n_head") or 0
    hidden = config.get("hidden_size") or config.get("n_embd") or 0
    if not all(isinstance(number, int) and number > 0 for number in (layers, queries, hidden)):
        return 0
    size = config.get("head_dim") or hidden // queries
    head = size + SCALE_BYTES if width is None else size * width
    return int(2 * layers * (config.get("num_key_value_heads") or queries) * head)
