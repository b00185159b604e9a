"""Facts from a model's own files: context, end tokens, sampling defaults."""

import logging
from pathlib import Path
from typing import Any

import msgspec
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from gateway.engine import LoadFailed, Sampling
from gateway_hf.loading import checks as gate
from gateway_hf.settings import LARGEST_CACHE, SCALE_BYTES, USUAL_CACHE

_log = logging.getLogger("gateway_hf")

_WINDOWS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
# A tokenizer without a limit says so by a number beyond any context.
_UNLIMITED = 1 << 30
_NO_WINDOW = 2048
# What transformers writes into every generation config; it says nothing about the model.
_LIBRARY_MAX_LENGTH = 20
# The defaults that make sense, as the bounds of a request's own values.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 2**31),
    "min_p": (0, 1),
    "repetition_penalty": (1e-3, 1e3),
    "max_tokens": (1, 2**31),
    "max_length": (1, 2**31),
}
_DRAWN = ("temperature", "top_p", "top_k", "min_p")


def context_window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model reads at most."""
    config = model.config.get_text_config()
    for name in _WINDOWS:
        window = getattr(config, name, None)
        if isinstance(window, int) and window > 0:
            return window
    limit = int(tokenizer.model_max_length)
    return limit if 0 < limit < _UNLIMITED else _NO_WINDOW


def cache_tokens(model: PreTrainedModel, asked: int, window: int, *, rounded: bool = False) -> int:
    """Return how many tokens the cache of keys and values, maybe `rounded`, is to hold, `asked` 0 leaving it to us."""
    if asked:
        return asked
    config = model.config.get_text_config()
    most = max(window, USUAL_CACHE)
    width = None if rounded else model.dtype.itemsize
    token = sum(_kept(config.per_layer_config[at], width) for at in range(getattr(config, "num_hidden_layers", 0)))
    return max(1, min(most, LARGEST_CACHE // token)) if token else most


def _kept(layer: PreTrainedConfig, width: int | None) -> int:
    """Return how many bytes a layer keeps of a token, in numbers of `width` bytes, or rounded where that is `None`.

    None where its configuration names no attention heads.
    """
    queries: int | None = getattr(layer, "num_attention_heads", None)
    if not queries:
        return 0
    size: int = getattr(layer, "head_dim", None) or layer.hidden_size // queries
    head = size + SCALE_BYTES if width is None else size * width
    return 2 * (getattr(layer, "num_key_value_heads", None) or queries) * head


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> frozenset[int]:
    """Return the tokens that end an answer: the generation config's, else the config's, else the tokenizer's.

    A token beyond the vocabulary is left out with a warning: the model has no logit for it.
    """
    found = _said_eos_ids(model, tokenizer)
    if beyond := sorted(number for number in found if not 0 <= number < vocabulary):
        _log.warning("the model never says these tokens, which are to end its answers: %s", beyond)
    return found.difference(beyond)


def _said_eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    for holder in (model.generation_config, model.config.get_text_config(), tokenizer):
        match getattr(holder, "eos_token_id", None):
            case int(one):
                return frozenset({one})
            case [*several] if several:
                return frozenset(several)
    return frozenset()


def vocabulary(model: PreTrainedModel) -> int:
    """Return the number of logits, which may be more than the tokenizer has tokens."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call] # so is the library
    return int(model.config.get_text_config().vocab_size if head is None else head.weight.shape[0])


def sampling_defaults(folder: Path, name: str) -> Sampling:
    """Return the defaults in the generation config; without `do_sample`, those of the draw are ignored."""
    file = folder / "generation_config.json"
    config = gate.read_json(file, name) if file.is_file() else {}
    said = {"repetition_penalty": config.get("repetition_penalty"), "max_tokens": config.get("max_new_tokens")}
    if config.get("do_sample") is True:
        said |= {key: config.get(key) for key in _DRAWN}
        said["temperature"] = 1.0 if said["temperature"] is None else said["temperature"]
    if said["max_tokens"] is None and config.get("max_length") != _LIBRARY_MAX_LENGTH:
        said["max_length"] = config.get("max_length")
    try:
        return msgspec.convert({key: _usable(key, value, name) for key, value in said.items()}, Sampling)
    except msgspec.ValidationError as error:
        raise LoadFailed(f"the generation_config.json of the model '{name}' makes no sense: {error}") from error


def _usable(key: str, value: object, model: str) -> object:
    """Return a default that a request could ask for too; any other would fail each answer, and is left out."""
    if key == "top_k" and value == -1:
        return 0  # off, as others write it
    least, most = _RANGES[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or least <= value <= most:
        return value
    _log.warning("the generation_config.json of the model '%s' sets %s to %s, which is left out", model, key, value)
    return None
