"""Attention over the cache's blocks, in the place of transformers' own, called by its model code for every layer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gateway_hf.compute.kernels import LARGEST_HEAD, Heads, Kernels
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.compute.layout import BatchLayout
from gateway_hf.steps import StepCount

# What a model may tell its attention besides, and that changes nothing here.
_NEUTRAL = frozenset(
    {"position_ids", "cache_position", "use_cache", "is_causal", "past_key_values", "head_mask"}
    | {"output_attentions", "output_router_logits"}
)

# Told a layer's index, its queries, keys and values `[1, heads, rows, size]`, and the answer `[1, rows, heads, size]`.
Listener = Callable[[int, Tensor, Tensor, Tensor, Tensor], None]


class UnsupportedAttention(Exception):
    """The model wants an attention that is not built here."""


class Attention:
    """One model's attention: called with the query, key and value of one layer, `[1, heads, rows, size]`.

    `rows` says which sequences they are of; `heads` is what each layer was found to ask for; `sinks` `[queries]` are
    scores of a layer beside those of tokens, of values that are zero; `steps` counts layers. `listener` is told what
    each layer asks and is answered, while one listens.
    """

    def __init__(self, cache: KvCache) -> None:
        self.cache = cache
        self.rows: BatchLayout | None = None
        self.heads: dict[int, Heads] = {}
        self.sinks: dict[int, Tensor] = {}
        self._exact_sinks: dict[int, Tensor] = {}
        self.steps = StepCount()
        self.listener: Listener | None = None

    def __call__(  # noqa: PLR0913 - transformers' interface
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        **others: object,
    ) -> tuple[Tensor, None]:
        """Return `[1, rows, heads, size]`; raise `UnsupportedAttention`."""
        strange = [name for name, given in others.items() if given is not None and name not in _NEUTRAL]
        if strange or attention_mask is not None or dropout or self.rows is None:
            raise UnsupportedAttention(f"attention with {', '.join(strange) or 'a mask'}")
        index: Any = getattr(module, "layer_idx", None)
        if index is None or query.shape[0] != 1 or key.shape != value.shape or key.shape[-1] != query.shape[-1]:
            raise UnsupportedAttention("attention of an unknown shape")
        if index not in self.heads:
            _, queries, _, size = query.shape
            scale = size**-0.5 if scaling is None else float(scaling)
            self.heads[index] = Heads(queries, key.shape[1], size, sliding_window or 0, scale, softcap or 0.0)
            self.heads[index].cache = self.cache.layer(index, key.shape[1], size).data_ptr()
            if s_aux is not None:
                self._sink(index, s_aux)
        self.steps.tick()
        out = self._attend(index, self.rows, query, key, value)
        if self.listener is not None:
            self.listener(index, query, key, value, out)
        return out, None

    def _sink(self, index: int, sinks: Tensor) -> None:
        """Note the sinks of a layer; raise `UnsupportedAttention`."""
        if sinks.shape != (self.heads[index].queries,):
            raise UnsupportedAttention("sinks of an unknown shape")
        self.sinks[index], self._exact_sinks[index] = sinks, sinks.detach().float().clone()
        self.heads[index].sinks = self._exact_sinks[index].data_ptr()

    def _attend(self, index: int, rows: BatchLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        raise NotImplementedError


class NativeAttention(Attention):
    """Attention by the kernels."""

    def __init__(self, cache: KvCache, kernels: Kernels) -> None:
        super().__init__(cache)
        self._kernels = kernels

    def _attend(self, index: int, rows: BatchLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.heads[index].size > LARGEST_HEAD:
            raise UnsupportedAttention(f"heads of {self.heads[index].size} numbers")
        q, k, v = (each[0].transpose(0, 1).float().contiguous() for each in (query, key, value))
        out = self._kernels.attend(self.heads[index], rows.batch, self.cache.form, (q, k, v))
        return out.to(query.dtype)[None]


class StockAttention(Attention):
    """Attention by torch alone, on any device: decoding sequences together, prompts one by one."""

    def _attend(self, index: int, rows: BatchLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads, slots = self.heads[index], rows.slots(key.device)
        self.cache.put(index, slots.new, key[0].transpose(0, 1), value[0].transpose(0, 1))
        out = torch.empty_like(query)
        for span, held, mask in slots.groups(heads.window):
            # Keys and values are by sequence, head, token, and so are the queries.
            kept = self.cache.held(index, 0, held).transpose(1, 2), self.cache.held(index, 1, held).transpose(1, 2)
            own = query[0, :, span].reshape(heads.queries, held.shape[0], -1, heads.size).transpose(0, 1)
            seen = _attend(heads, own, kept, mask, self._exact_sinks.get(index))
            out[0, :, span] = seen.transpose(0, 1).flatten(1, 2)
        return out.transpose(1, 2)


def _attend(heads: Heads, query: Tensor, kept: tuple[Tensor, Tensor], mask: Tensor, sinks: Tensor | None) -> Tensor:
    """Attend `[sequences, heads, rows, size]`, with `mask` `[sequences, 1, rows, tokens]` true where a row may look."""
    keys, values = kept
    if not heads.cap and sinks is None:
        return scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, scale=heads.scale, enable_gqa=heads.queries != heads.keys
        )
    group = heads.queries // heads.keys
    scores = query.float() @ keys.repeat_interleave(group, 1).float().transpose(-1, -2) * heads.scale
    if heads.cap:
        scores = heads.cap * torch.tanh(scores / heads.cap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        scores = torch.cat([sinks[:, None, None].expand(*scores.shape[:-1], 1), scores], dim=-1)
    weights = scores.softmax(-1)[..., -keys.shape[2] :]
    seen: Tensor = weights @ values.repeat_interleave(group, 1).float()
    return seen.to(query.dtype)
