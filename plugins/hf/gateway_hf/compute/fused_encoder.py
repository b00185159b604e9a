"""Whole encoders of BERT's kind in one call of the kernels; embeddings, poolers and heads stay transformers'."""

from collections.abc import Sequence as Some
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as EncoderOutput

from gateway_hf.compute.kernels import FORMATS, LARGEST_HEAD, EncoderLayer, Format, Kernels
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.pieces import activation_of
from gateway_hf.compute.rounded import joined
from gateway_hf.compute.trial import Misfit

_LAYER = {"attention", "intermediate", "output"}
_PROJECTIONS = ("query", "key", "value")
# How far states may be from the model's own, as a part of their norm; in bfloat16 the model is the less exact one.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}
# Tokens of the texts of a trial: one alone, a few, a whole panel, and some that fill none.
_LENGTHS = (1, 5, 16, 37)


class FusedEncoder(nn.Module):
    """Stands in the place of `encoder`, whose layers are BERT's; raises `Misfit` where they are not."""

    def __init__(self, encoder: nn.Module, kernels: Kernels, form: Format) -> None:
        super().__init__()
        layers = getattr(encoder, "layer", None)
        if not isinstance(layers, nn.ModuleList) or not all(map(_is_berts, layers)):
            raise Misfit("its layers are not BERT's")
        self._kernels = kernels
        self._kept: list[Any] = []
        self._layers = (EncoderLayer * len(layers))(*(self._pack(layer, form) for layer in layers))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: object) -> EncoderOutput:
        """Return the states `[texts, tokens, hidden]` behind the last layer, zero where masked.

        The mask is `[texts, 1, rows, tokens]`, the same in all rows: true, or zero where numbers are added.
        """
        texts, tokens, hidden = hidden_states.shape
        if attention_mask is None:
            read = hidden_states.new_ones(texts, tokens, dtype=torch.bool)
        else:
            of_text = attention_mask[:, 0, 0]
            read = of_text if of_text.dtype is torch.bool else of_text == 0
        starts = nn.functional.pad(read.sum(1).cumsum(0), (1, 0)).int()
        rows = hidden_states[read].float().contiguous()
        self._kernels.encode(self._layers, starts, rows)
        out = torch.zeros(texts, tokens, hidden, dtype=hidden_states.dtype)
        out[read] = rows.to(out.dtype)
        return EncoderOutput(last_hidden_state=out)

    def _pack(self, layer: nn.Module, form: Format) -> EncoderLayer:
        own, behind = layer.get_submodule("attention.self"), layer.get_submodule("attention.output")
        first, second = behind.get_submodule("LayerNorm"), layer.get_submodule("output.LayerNorm")
        heads, size = own.num_attention_heads, own.attention_head_size
        struct = EncoderLayer(eps=first.eps, scale=own.scaling, heads=heads, size=size)
        struct.activation = activation_of(layer.get_submodule("intermediate.intermediate_act_fn"))
        for field, linears in (
            ("qkv", [own.get_submodule(name) for name in _PROJECTIONS]),
            ("out", [behind.get_submodule("dense")]),
            ("up", [layer.get_submodule("intermediate.dense")]),
            ("down", [layer.get_submodule("output.dense")]),
        ):
            packed = Packed(*joined(linears), form, self._kernels)
            self._kept.append(packed)
            setattr(struct, field, packed.struct)
        for name, norm in (("norm", first), ("second_norm", second)):
            setattr(struct, name, self._keep(norm.get_parameter("weight")))
        for name, norm in (("norm_bias", first), ("second_bias", second)):
            setattr(struct, name, self._keep(norm.get_parameter("bias")))
        return struct

    def _keep(self, numbers: Tensor) -> int:
        kept = numbers.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()


def _is_berts(layer: nn.Module) -> bool:
    """Say whether a layer has the parts of BERT's and none besides; that it adds up is tested later."""
    if {name for name, _ in layer.named_children()} != _LAYER:
        return False
    own: Any = getattr(layer.get_submodule("attention"), "self", None)
    linears = [each for each in layer.modules() if isinstance(each, nn.Linear)]
    norms = [each for each in layer.modules() if isinstance(each, nn.LayerNorm)]
    weights = {id(each) for part in (*linears, *norms) for each in part.parameters()}
    activation: Any = getattr(layer.get_submodule("intermediate"), "intermediate_act_fn", None)
    return bool(
        isinstance(own, nn.Module)
        and all(isinstance(getattr(own, name, None), nn.Linear) for name in _PROJECTIONS)
        and all(hasattr(own, name) for name in ("num_attention_heads", "attention_head_size", "scaling"))
        and getattr(own, "attention_head_size", 0) <= LARGEST_HEAD
        and (len(linears), len(norms)) == (len(_PROJECTIONS) + 3, 2)
        and norms[0].eps == norms[1].eps
        and all(id(each) in weights for each in layer.parameters())
        and all(each.in_features % 2 == 0 for each in linears)
        and isinstance(activation, nn.Module)
        and activation_of(activation) is not None
    )


@torch.inference_mode()
def fuse_encoder(model: PreTrainedModel, kernels: Kernels) -> None:
    """Fuse the encoder of a model, and see that it says the same; else leave the model as it was and raise `Misfit`."""
    base = getattr(model, model.base_model_prefix, model)
    stock = getattr(base, "encoder", None)
    if not isinstance(stock, nn.Module) or model.dtype not in FORMATS:
        raise Misfit("it has no encoder of BERT's kind")
    inputs = _trial(int(model.config.get_text_config().vocab_size), _LENGTHS)
    said = _states(base, inputs)
    fused = FusedEncoder(stock, kernels, FORMATS[model.dtype])
    base.encoder = fused
    try:
        off = float(((_states(base, inputs) - said).norm(dim=-1) / said.norm(dim=-1)).max())
    except Exception:
        base.encoder = stock
        raise
    if not off <= _TOLERANCE[model.dtype]:
        base.encoder = stock
        raise Misfit(f"fused layers say something else: {off:.2g} of the norm of a state")
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a view into a file's mapping would keep all of it in memory


def _trial(vocabulary: int, lengths: Some[int]) -> dict[str, Tensor]:
    """Make texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


def _states(base: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Return what the layers make of each token that is read, float32 `[tokens, hidden]`."""
    states: Tensor = base(**inputs).last_hidden_state
    return states[inputs["attention_mask"].bool()].float()
