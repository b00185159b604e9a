"""Rebuild the position scaling of a GGUF file, which transformers does not read."""

import logging
import math
import statistics
from typing import Any

from transformers import PreTrainedConfig

from gateway.engine import LoadFailed
from gateway_hf.loading.gguf_file import GgufFile

_LOG = logging.getLogger(__name__)
_FACTORS = "rope_freqs.weight"
_LENGTHS = ("rope_factors_long.weight", "rope_factors_short.weight")
# Original context, low and high factor of every Llama 3 that scales its positions.
_LLAMA3 = (8192, 1.0, 4.0)
_CLOSE = 1e-4
_FEWEST = 2  # points that make a line
# What the rules below read, and what describes the training only.
_READ = {
    *("type", "factor", "original_context_length", "finetuned"),
    *("attn_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_ext_factor"),
}

Rope = dict[str, Any]


def restore_positions(file: GgufFile, config: PreTrainedConfig) -> None:
    """Write the file's scaling of positions into `config`; raise `LoadFailed` for one that cannot be rebuilt."""
    found = _scaling(file)
    factors = file.numbers(_FACTORS)
    if found is None and (factors is None or all(abs(each - 1) < _CLOSE for each in factors)):
        return
    own: Rope = getattr(config, "rope_parameters", None) or {}
    # Gemma 3 has one table for each kind of layer, and scales only those that see the whole context.
    table = own if "rope_theta" in own else own.get("full_attention")
    if not isinstance(table, dict):
        raise _refused(file, f"the model '{config.model_type}' of transformers scales no positions")
    if table.get("rope_type", "default") != "default":
        return
    if factors is not None:
        if found is not None:
            raise _refused(file, f"it has both '{_FACTORS}' and the type '{found['rope_type']}'")
        found = _from_factors(file, factors, float(table["rope_theta"]))
    table |= found or {}
    _LOG.info("the positions of %s are scaled: %s", file.name, found)


def _scaling(file: GgufFile) -> Rope | None:
    """Return the scaling that the metadata describes, or None where it describes none."""
    if any(file.numbers(tensor) is not None for tensor in _LENGTHS):
        raise _refused(file, "factors for short and for long prompts (longrope) are not supported")
    prefix = "rope.scaling."
    said = {key.removeprefix(prefix): file.own(key) for key in file.own_keys(prefix)}
    if unknown := sorted(said.keys() - _READ):
        raise _refused(file, f"'{prefix}{unknown[0]}' is not supported")
    factor = float(said.get("factor") or file.own("rope.scale_linear") or 1.0)
    kind = said.get("type", "linear")
    if kind == "none" or factor == 1.0:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn" and said.get("original_context_length") and said.get("yarn_ext_factor", 1.0) == 1.0:
        return _yarn(said, factor)
    raise _refused(file, f"the type '{kind}' is not supported")


def _yarn(said: dict[str, Any], factor: float) -> Rope:
    """Name YaRN's parameters as transformers does (Peng 2023)."""
    attention = said.get("yarn_attn_factor", said.get("attn_factor", 1.0))
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(said["original_context_length"]),
        "beta_fast": float(said.get("yarn_beta_fast", 32.0)),
        "beta_slow": float(said.get("yarn_beta_slow", 1.0)),
        "attention_factor": float(attention) * (0.1 * math.log(factor) + 1.0),
    }


def _from_factors(file: GgufFile, stretch: list[float], theta: float) -> Rope:
    """Find the parameters of Llama 3's scaling that stretch the wavelengths so; raise `LoadFailed` where none do."""
    turns = [theta ** -(each / len(stretch)) / (2 * math.pi) for each in range(len(stretch))]
    factor = max(stretch)
    for context, low, high in (_LLAMA3, *_fitted(stretch, turns)):
        made = [_stretched(turn * context, factor, low, high) for turn in turns]
        if all(math.isclose(each, wanted, rel_tol=_CLOSE) for each, wanted in zip(made, stretch, strict=True)):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": context,
            }
    raise _refused(file, f"the factors in '{_FACTORS}' are not Llama 3's")


def _stretched(turns: float, factor: float, low: float, high: float) -> float:
    """Return how much longer a wavelength gets that turns so often in the original context."""
    smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
    return 1 / ((1 - smooth) / factor + smooth)


def _fitted(stretch: list[float], turns: list[float]) -> list[tuple[int, float, float]]:
    """Fit context, low and high factor to the factors between 1 and the largest, with a low factor of 1.

    There 1 / stretch is (1 - s) / factor + s, and s is linear in the turns of a frequency over the context.
    """
    factor = max(stretch)
    between = [at for at, each in enumerate(stretch) if 1 + _CLOSE < each < factor - _CLOSE]
    if len(between) < _FEWEST:
        return []
    smooth = [(1 / stretch[at] - 1 / factor) / (1 - 1 / factor) for at in between]
    slope, offset = statistics.linear_regression([turns[at] for at in between], smooth)
    if slope <= 0 or offset >= 0:
        return []
    return [(round(-slope / offset), 1.0, round(1 - 1 / offset, 4))]


def _refused(file: GgufFile, why: str) -> LoadFailed:
    return LoadFailed(f"the positions of the GGUF file '{file.name}' cannot be rebuilt: {why}")
