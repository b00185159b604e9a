"""Whole decoder layers of the Llama kind in one call of the kernels; everything around them stays transformers'."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from gateway_hf.compute.adapters import Adapters
from gateway_hf.compute.attention import Attention
from gateway_hf.compute.kernels import FORMATS, Format, Heads, Kernels, Layer
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.rounded import joined

_NORMS = ("input_layernorm", "post_attention_layernorm")
_LAYER = {"self_attn", "mlp", *_NORMS}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_LINEARS = ("gate_proj", "up_proj", "down_proj")
_MLP = {*_LINEARS, "act_fn"}
_ACTIVATIONS = (nn.SiLU(), nn.GELU(approximate="tanh"), nn.GELU())


def fusible(layer: nn.Module, form: Format) -> bool:
    """Say whether a decoder layer has the parts of a Llama's and none besides; that it adds up is tested later."""
    if {name for name, _ in layer.named_children()} != _LAYER:
        return False
    attention, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
    if not all(list(layer.get_submodule(norm).parameters()) for norm in _NORMS):
        return False
    parts = {name for name, _ in attention.named_children()}
    if not set(_PROJECTIONS) <= parts <= {*_PROJECTIONS, "q_norm", "k_norm"}:
        return False
    if {name for name, _ in mlp.named_children()} != _MLP or activation_of(mlp.get_submodule("act_fn")) is None:
        return False
    linears = [child for child in layer.modules() if isinstance(child, nn.Linear)]
    return len(linears) == len(_PROJECTIONS) + 3 and all(Packed.fits(each.in_features, form) for each in linears)


class FusedLayer(nn.Module):
    """A decoder layer that reads and overwrites its hidden states; `heads` is what the layer asked attention for."""

    def __init__(self, layer: nn.Module, heads: Heads, attention: Attention, kernels: Kernels, form: Format) -> None:
        super().__init__()
        self._attention = attention
        self._kernels = kernels
        self._kept: list[Any] = []
        own, mlp = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        hidden = own.get_parameter("q_proj.weight").shape[1]
        inner = mlp.get_parameter("down_proj.weight").shape[1]
        first, second = (layer.get_submodule(norm) for norm in _NORMS)
        self.struct = Layer(heads=heads, hidden=hidden, inner=inner, eps=_eps(first))
        self.struct.activation = activation_of(mlp.get_submodule("act_fn")) or 0
        self.struct.norm = self._norm(first, hidden)
        self.struct.second_norm = self._norm(second, hidden)
        for name, field in (("q_norm", "query_norm"), ("k_norm", "key_norm")):
            if norm := getattr(own, name, None):
                setattr(self.struct, field, self._norm(norm, heads.size))
        for field, holder, names in (
            ("qkv", own, ("q_proj", "k_proj", "v_proj")),
            ("out", own, ("o_proj",)),
            ("up", mlp, ("gate_proj", "up_proj")),
            ("down", mlp, ("down_proj",)),
        ):
            packed = Packed(*joined([holder.get_submodule(name) for name in names]), form, kernels)
            self._kept.append(packed)
            setattr(self.struct, field, packed.struct)

    def adapt(self, layer: nn.Module, adapters: Adapters) -> None:
        """Take what adapters change of the layer that this one was made of."""
        heads, own, mlp = self.struct.heads, layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        columns = (0, heads.queries * heads.size, (heads.queries + heads.keys) * heads.size, 0, 0, self.struct.inner, 0)
        parts = [own.get_submodule(name) for name in _PROJECTIONS] + [mlp.get_submodule(name) for name in _LINEARS]
        if (packed := adapters.pack(list(zip(parts, columns, strict=True)), self._kernels)) is not None:
            self._kept.append(packed)
            self.struct.adapters = ctypes.addressof(packed.table)

    def forward(
        self, hidden_states: Tensor, *_: object, position_embeddings: tuple[Tensor, Tensor], **__: object
    ) -> Tensor:
        """Run the layer over `[1, rows, hidden]`, in place where that is float32 already; return float32."""
        cos, sin = (each.float().contiguous() for each in position_embeddings)
        self.struct.rotary = cos.shape[-1]
        rows = self._attention.rows
        if rows is not None:
            self._attention.steps.tick()
            states = hidden_states.float().contiguous()
            self._kernels.run_layer(self.struct, rows.batch, FORMATS[self._attention.cache.dtype], (states, cos, sin))
            return states
        return hidden_states

    def _norm(self, norm: nn.Module, size: int) -> int:
        """Keep the norm's effective weight, whatever it adds to what it has stored, and return its address."""
        dtype = next(norm.parameters()).dtype
        weight = norm(torch.ones(1, size, dtype=dtype)).float()[0]
        if dtype is torch.float32:
            weight *= (1.0 + _eps(norm)) ** 0.5
        weight = weight.contiguous()
        self._kept.append(weight)
        address: int = weight.data_ptr()
        return address


def _eps(norm: nn.Module) -> float:
    return float(getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0)))


def activation_of(function: nn.Module) -> int | None:
    """Find the kernels' number of an activation, by trying; none where they have no such."""
    x = torch.linspace(-6, 6, 61)
    y = function(x)
    return next((kind for kind, known in enumerate(_ACTIVATIONS) if torch.allclose(y, known(x), atol=1e-6)), None)
