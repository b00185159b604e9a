"""Refuse a GGUF file of which transformers reads only a part: the rest would change every answer."""

import math
from typing import Any

import gguf
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from gateway.engine import LoadFailed
from gateway_hf.loading.gguf_file import GgufFile

_BLOCK = "blk."
# Tensors that are no weights: they are rebuilt as part of the configuration, or are a copy of what it says.
_NO_WEIGHTS = ("rope_freqs.weight", "attn_rot_embd.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# What the file says of the computation, and the names that transformers has for it.
_SAME = {
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attention.key_length": ("head_dim", "global_head_dim"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "logit_scale": ("logit_scale",),
}
# What may be missing from a configuration where the file says this of it.
_NEUTRAL = {"logit_scale": 1.0}
_CLOSE = 1e-6


def check_before(file: GgufFile) -> None:
    """Raise `LoadFailed` for a file that is no whole language model of an architecture that transformers reads."""
    if (parts := file.value("split.count") or 1) > 1:
        raise LoadFailed(
            f"the GGUF file '{file.name}' is one of {parts} parts; merge them with llama-gguf-split, name the result"
        )
    if (kind := file.value("general.type") or "model") != "model":
        raise LoadFailed(f"the GGUF file '{file.name}' holds no model: it is of the type '{kind}'")
    if file.architecture not in {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_ARCHS}:
        raise LoadFailed(
            f"the GGUF file '{file.name}' is of the architecture '{file.architecture}', which is not supported"
        )
    if (layers := file.own("block_count") or 0) > (tensors := len(file.sizes())):
        raise LoadFailed(f"the GGUF file '{file.name}' says block_count = {layers}, and it has {tensors} tensors")


def check_after(file: GgufFile, model: PreTrainedModel, missing: set[str]) -> None:
    """Raise `LoadFailed` unless all that the file holds is in `model`, and the model has nothing else.

    `missing` names the weights that transformers did not find.
    """
    if missing:
        raise LoadFailed(
            f"the GGUF file '{file.name}' lacks {len(missing)} weights of its model, such as '{min(missing)}'"
        )
    config = model.config.get_text_config()
    layers = config.num_hidden_layers
    held = {name: size for name, size in file.sizes().items() if _is_weight(name, layers)}
    own = {weight.data_ptr(): weight.numel() for weight in model.state_dict().values()}
    if sum(held.values()) != sum(own.values()):
        unread = sorted(held.keys() - _expected(file, model)) or ["?"]
        raise LoadFailed(
            f"the GGUF file '{file.name}' has weights that transformers does not read, such as '{unread[0]}'"
        )
    for key, names in _SAME.items():
        said = file.own(key)
        if said is not None and not _agrees(key, said, config, names):
            raise LoadFailed(f"the GGUF file '{file.name}' says {key} = {said}, which transformers does not read")


def _is_weight(name: str, layers: int) -> bool:
    """Tell whether a tensor is a weight of the model: no table, and no layer for multi-token prediction."""
    block = name.removeprefix(_BLOCK).partition(".")[0] if name.startswith(_BLOCK) else ""
    return not name.endswith(_NO_WEIGHTS) and not (block.isdigit() and int(block) >= layers)


def _expected(file: GgufFile, model: PreTrainedModel) -> set[str]:
    """Return the tensor names that the gguf library expects of this model."""
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[file.architecture], model.config.get_text_config().num_hidden_layers)
    stems = (name.rpartition(".") for name in model.state_dict())
    return {f"{names.get_name(stem)}.{suffix}" for stem, _, suffix in stems}


def _agrees(key: str, said: Any, config: PreTrainedConfig, names: tuple[str, ...]) -> bool:  # noqa: ANN401 - the file's
    values = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
    if not values:
        return bool(said == _NEUTRAL.get(key, 0))
    return any(math.isclose(float(value), float(said), rel_tol=_CLOSE) for value in values)
