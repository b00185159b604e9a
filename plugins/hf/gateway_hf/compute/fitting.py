"""Fit a loaded model out for the engine: batch it, pack its weights, fuse its layers, as far as it still says the same.

Nothing is taken on trust. What the model says of random tokens is noted first; each change must say it again.
"""

import logging
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface
from transformers.pytorch_utils import Conv1D

from gateway.engine import LoadFailed
from gateway_hf.compute.attention import Attention, NativeAttention, StockAttention, UnsupportedAttention
from gateway_hf.compute.forward import BatchedForward, Forward, SerialForward
from gateway_hf.compute.fused import FusedLayer, fusible
from gateway_hf.compute.kernels import BLOCK, FORMATS, Format, Kernels
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.compute.packed import Packed, PackedLinear, weight_of
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence

_log = logging.getLogger("gateway_hf")
_names = count()

# How far what a changed model says may be from what it said, by the norm of the difference; nonsense is off by 1 or
# more. In bfloat16 the model itself is the less exact one: SmolLM2 is off by 0.16 from float32, fused layers by 0.04.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.4}
_TOLERANCE_INT8 = 0.5
# Nothing was changed here: it tells rounding, of experts too, from a model that has forgotten what it read.
_TOLERANCE_SERIAL = 0.5
_TRIAL = (9, 21)
# What the trial needs of the cache: two blocks for each sequence.
TRIAL_BLOCKS = 2 * len(_TRIAL)
# transformers turns all rows of a pass by the longest sequence in it.
_COMMON_ROPES = ("dynamic", "longrope")


class Means(NamedTuple):
    """What there is to fit a model out with; without kernels, torch's own operations."""

    blocks: int
    kernels: Kernels | None
    form: Format | None


class Fitted(NamedTuple):
    """A model that is ready to run; `note` says what it could not be given."""

    forward: Forward
    cache: KvCache | None
    note: str = ""

    @property
    def batched(self) -> bool:
        """Whether sequences run together and may share blocks."""
        return self.cache is not None


class _Misfit(Exception):
    """A changed model says something else."""


@torch.inference_mode()
def fit(load: Callable[[], PreTrainedModel], means: Means) -> Fitted:
    """Fit out the model that `load` loads, again where an attempt has to be given up; raise `LoadFailed`.

    The ladder: fused layers and packed weights; packed weights; batches alone; one sequence at a time.
    """
    reasons: list[str] = []
    for change in _changes(means):
        try:
            return _batched(load(), means, change)
        except LoadFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            foreseen = isinstance(error, _Misfit | UnsupportedAttention)
            reasons.append(str(error) if foreseen else f"its code raises {type(error).__name__}")
            _log.info("not fitted out with %s: %s", change.__name__.strip("_"), reasons[-1])
    if means.form is Format.INT8:
        raise LoadFailed(f"the model cannot be quantized to int8: {reasons[0]}")
    _log.warning("the model runs one answer at a time: %s", reasons[-1])
    return Fitted(_serial(load()), None, f"one answer at a time: {reasons[-1]}")


Change = Callable[[PreTrainedModel, Attention, Kernels, Format], None]


def _changes(means: Means) -> tuple[Change, ...]:
    """Return what to try; int8 that changes no weights would be none."""
    if means.kernels is None:
        return (_batches,)
    return (_fused_layers, _packed_weights) if means.form is Format.INT8 else (_fused_layers, _packed_weights, _batches)


def _batched(model: PreTrainedModel, means: Means, change: Change) -> Fitted:
    trial = _Trial(model)
    cache = KvCache(means.blocks, model.dtype, model.device, means.kernels)
    attention = StockAttention(cache) if means.kernels is None else NativeAttention(cache, means.kernels)
    _adopt(model, attention)
    forward = BatchedForward(model, attention, means.kernels)
    trial.check(forward, _TOLERANCE[model.dtype], "in a batch")
    _check_windows(model, attention)
    _check_positions(model)
    if means.kernels is not None and means.form is not None and change is not _batches:
        change(model, attention, means.kernels, means.form)
        tolerance = _TOLERANCE_INT8 if means.form is Format.INT8 else _TOLERANCE[model.dtype]
        trial.check(forward, tolerance, "with packed weights")
    return Fitted(forward, cache)


def _serial(model: PreTrainedModel) -> Forward:
    """Run a model as it is, if it goes on from transformers' own cache; raise `LoadFailed` where it keeps another."""
    trial = _Trial(model)
    forward = SerialForward(model)
    try:
        trial.check(forward, _TOLERANCE_SERIAL, "token by token")
    except _Misfit as error:
        raise LoadFailed(f"the model cannot be run: {error}") from error
    return forward


def _adopt(model: PreTrainedModel, attention: Attention) -> None:
    """Let the model call our attention, under a name of its own; raise `UnsupportedAttention`."""
    name = f"gateway_{next(_names)}"
    # The registry is the library's and lives for ever: it must not keep the model's memory.
    weak = weakref.ref(attention)

    def attend(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:  # noqa: ANN401 - whatever the model's code passes
        there = weak()
        if there is None:
            raise UnsupportedAttention("the model was unloaded")
        return there(*args, **kwargs)

    AttentionInterface.register(name, attend)
    weakref.finalize(attention, AttentionInterface._global_mapping.pop, name, None)  # noqa: SLF001 - it offers no other way
    try:
        model.set_attn_implementation(name)
    except ValueError as error:
        raise UnsupportedAttention("its code takes no attention but its own") from error
    if model.config._attn_implementation != name:  # noqa: SLF001 - the only way to know
        raise UnsupportedAttention("its code takes no attention but its own")


def _check_windows(model: PreTrainedModel, attention: Attention) -> None:
    """Refuse a model whose attention is limited in a way that it did not tell us."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    for index, heads in attention.heads.items():
        kind = kinds[index] if kinds else ("sliding_attention" if window else "full_attention")
        if (kind, bool(heads.window)) not in {("full_attention", False), ("sliding_attention", True)}:
            raise UnsupportedAttention(f"a layer of the kind {kind}")
    if len(attention.heads) != config.num_hidden_layers:
        raise UnsupportedAttention("layers without attention")


def _check_positions(model: PreTrainedModel) -> None:
    """Refuse a model whose positions turn otherwise in a long sequence: those beside it in a batch would turn too."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    for each in (rope, *filter(lambda kind: isinstance(kind, dict), rope.values())):
        if each.get("rope_type") in _COMMON_ROPES:
            raise UnsupportedAttention(f"positions of the kind {each['rope_type']}")


def _batches(*_: object) -> None:
    """Change nothing."""


def _fused_layers(model: PreTrainedModel, attention: Attention, kernels: Kernels, form: Format) -> None:
    """Put fused layers in the places of the model's own, and pack the rest."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(fusible(layer, form) for layer in layers):
        raise _Misfit("its layers are not a Llama's")
    for index in range(len(layers)):
        layers[index] = FusedLayer(layers[index], attention.heads[index], attention, kernels, form)
    # From here on the model's own code computes in float32 what is left to it: positions, and the last norm.
    model.get_input_embeddings().register_forward_hook(lambda _module, _ids, states: states.float())
    _packed_weights(model, attention, kernels, form)


def _packed_weights(model: PreTrainedModel, _: Attention, kernels: Kernels, form: Format) -> None:
    """Pack every linear layer, in the model's own format where one has no depth for `form`."""
    dtype = model.dtype
    packed = 0
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        weight, bias = weight_of(module)
        fitting = form if Packed.fits(weight.shape[1], form) else FORMATS[dtype]
        if not Packed.fits(weight.shape[1], fitting):
            continue
        packed += fitting is form
        head = module is model.lm_head if hasattr(model, "lm_head") else False
        owner, _dot, own = name.rpartition(".")
        # The head's logits are wanted in float32, and have it already.
        replaced = PackedLinear(Packed(weight, bias, fitting, kernels), kernels, torch.float32 if head else dtype)
        setattr(model.get_submodule(owner), own, replaced)
    if not packed:
        raise _Misfit("none of its layers can be packed")
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a view into a file's mapping would keep all of it in memory


class _Trial:
    """Two random sequences, and what the unchanged model says after each but the last token, and after that."""

    def __init__(self, model: PreTrainedModel) -> None:
        random = torch.Generator().manual_seed(0)
        vocabulary = model.config.get_text_config().vocab_size
        self._tokens = [torch.randint(vocabulary, (size,), generator=random).tolist() for size in _TRIAL]
        self._said = torch.cat([self._say(model, tokens) for tokens in self._tokens])

    def check(self, forward: Forward, tolerance: float, how: str) -> None:
        """Raise `_Misfit` unless reading both at once, then one more token of each, says the same."""
        sequences = [Sequence(tokens[:-1]) for tokens in self._tokens]
        for at, sequence in enumerate(sequences):
            sequence.blocks = [at * 2, at * 2 + 1]
        first, _ = forward.logits([Chunk(each, len(each.tokens)) for each in sequences])
        for sequence, tokens in zip(sequences, self._tokens, strict=True):
            sequence.computed = len(sequence.tokens)
            sequence.tokens.append(tokens[-1])
        second, _ = forward.logits([Chunk(each, 1) for each in sequences])
        for sequence in sequences:
            forward.forget(sequence)
        said = torch.stack([first, second], dim=1).flatten(0, 1)
        off = float((said.cpu() - self._said).norm() / (self._said - self._said.mean(-1, keepdim=True)).norm())
        _log.debug("%s the model is off by %.3g", how, off)
        if not off <= tolerance:
            raise _Misfit(f"{how} it says something else (off by {off:.3g})")

    @staticmethod
    def _say(model: PreTrainedModel, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=model.device)
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0, -2:].float().cpu()
        return logits


def blocks_for(tokens: int) -> int:
    """Return the blocks that hold so many tokens."""
    return -(-tokens // BLOCK)


def form_of(dtype: torch.dtype, quantize: str) -> Format | None:
    """Return the format that weights are packed in; none where the kernels have none."""
    return Format.INT8 if quantize == "int8" else FORMATS.get(dtype)
