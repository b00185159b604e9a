"""Fit a loaded model out for the engine: batch it, pack its weights, fuse its layers, as far as it still says the same.

Nothing is taken on trust. What the model's own `generate()` says of random tokens is noted first; each change must say
it again.
"""

import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface

from gateway.engine import LoadFailed
from gateway_hf.compute.adapters import AdaptedBatches, AdaptedSequences, Adapters, Changes
from gateway_hf.compute.attention import Attention, NativeAttention, StockAttention, UnsupportedAttention
from gateway_hf.compute.changes import Change, FitWork, batches, fused_layers, packed_weights, trace
from gateway_hf.compute.forward import BatchedForward, Forward
from gateway_hf.compute.kernels import Format, Kernels
from gateway_hf.compute.kv_cache import KvCache
from gateway_hf.compute.packed import NotPackable
from gateway_hf.compute.panels import KeptWeights, Panels
from gateway_hf.compute.placement import one_thread
from gateway_hf.compute.reference import ReferenceAnswers
from gateway_hf.compute.serial import Reading, SerialForward, count_layers
from gateway_hf.compute.short_pass import shorten
from gateway_hf.compute.trial import Misfit, Trial, Trials, narrowed
from gateway_hf.steps import StepCount

_log = logging.getLogger("gateway_hf")
_names = count()

# How far what a changed model says may be from what it said, in each row of the trial. In bfloat16 the model itself is
# the less exact one: SmolLM2 is off by 0.16 from float32, fused layers by 0.04.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.4}
# The same where weights, or keys and values, are rounded to 8 bits: with the latter SmolLM2 is off by 0.11.
_TOLERANCE_INT8 = 0.5
# Nothing is changed where one sequence runs at a time: only the order of sums may differ.
_TOLERANCE_SERIAL = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
# Bytes of a model whose operations, by rows of a few tokens, are too short to be worth several threads.
_SMALL = 2 << 30
# transformers turns all rows of a pass by the longest sequence in it, where one is longer than a model was trained on.
_COMMON_ROPES = ("dynamic", "longrope")


class Means(NamedTuple):
    """What there is to fit a model out with; without kernels, torch's own operations.

    `window` is the longest that a sequence may become; `adapters` change linear layers that the model has, and `known`
    keeps what it said in a trial. Keys and values may be `rounded` to 8 bits. `kept` are its weights as they were
    packed before; the model that is loaded first may be `bare` then, with weights that are not rounded.
    """

    blocks: int
    kernels: Kernels | None
    form: Format | None
    window: int = sys.maxsize
    adapters: Changes = MappingProxyType({})
    known: ReferenceAnswers | None = None
    rounded: bool = False
    kept: KeptWeights | None = None
    bare: bool = False


class Fitted(NamedTuple):
    """A model that is ready to run; `note` says what it could not be given.

    `panels` are its weights where they were packed just now, for the model `change`.
    """

    forward: Forward
    cache: KvCache | None
    note: str = ""
    panels: Panels | None = None
    change: str = ""

    @property
    def batched(self) -> bool:
        """Whether sequences run together and may share blocks."""
        return self.cache is not None


@torch.inference_mode()
def fit(load: Callable[[], PreTrainedModel], means: Means) -> Fitted:
    """Fit out the model that `load` loads, again where an attempt has to be given up; raise `LoadFailed`.

    The ladder: kept weights; fused layers and packed weights; packed weights; batches alone; one sequence at a time.
    """
    reasons: list[str] = []
    trials: Trials | None = None
    for change, kept in _attempts(means):
        model, adapters = load(), Adapters(means.adapters, means.kernels)
        try:
            adapters.attach(model)
            trials = trials or Trials(model, adapters, known=means.known)
            _check_known(kept, trials, means)
            small = sum(each.nbytes for each in model.parameters()) <= _SMALL
            with one_thread(only=means.kernels is not None and small):
                fitted = _batched(model, adapters, trials, means._replace(kept=kept), change)
        except LoadFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            reasons.append(_reason(error))
            _log.info("not fitted out with %s: %s", change.__name__.strip("_"), reasons[-1])
            if kept is not None:
                kept.discard()
                trials = None  # of a model that may be bare
                reasons.clear()
        else:
            trials.keep()
            return fitted
        del model  # before the next one is loaded: there may be no room for two
    if means.known is not None and trials is not None and trials.recalled:
        means.known.forget()  # only what the model says now can refuse
        return fit(load, means._replace(kept=None))
    if means.form is Format.INT8:
        raise LoadFailed(f"the model cannot be quantized: {reasons[0]}")
    if means.rounded:
        raise LoadFailed(f"kv_dtype = int8 is for models that run several answers together: {reasons[-1]}")
    return _serial(load(), means, reasons[-1])


def _reason(error: Exception) -> str:
    """Say in one line why an attempt was given up."""
    return (
        str(error)
        if isinstance(error, Misfit | NotPackable | UnsupportedAttention)
        else f"its code raises {type(error).__name__}"
    )


def _check_known(kept: KeptWeights | None, trials: Trials, means: Means) -> None:
    """Raise `Misfit` where a bare model was asked what only one with rounded weights says."""
    if kept is not None and means.bare and not trials.recalled:
        raise Misfit("there is nothing to compare kept weights with")


def _attempts(means: Means) -> Iterator[tuple[Change, KeptWeights | None]]:
    """Yield what to try, kept weights first."""
    changes = _changes(means)
    if means.kept is not None:
        yield from ((change, means.kept) for change in changes if change.__name__ == means.kept.change)
    yield from ((change, None) for change in changes)


def _changes(means: Means) -> tuple[Change, ...]:
    """Return what to try; int8 that changes no weights would be none."""
    if means.kernels is None:
        return (batches,)
    return (fused_layers, packed_weights) if means.form is Format.INT8 else (fused_layers, packed_weights, batches)


def _batched(model: PreTrainedModel, adapters: Adapters, trials: Trials, means: Means, change: Change) -> Fitted:
    cache = KvCache(means.blocks, model.dtype, model.device, means.kernels, rounded=means.rounded)
    attention = StockAttention(cache) if means.kernels is None else NativeAttention(cache, means.kernels)
    _adopt(model, attention)
    whole = BatchedForward(model, attention, means.kernels)
    forward: Forward = whole
    tolerance, how = _TOLERANCE_INT8 if means.rounded else _TOLERANCE[model.dtype], "in a batch"
    panels: Panels | None = None
    _check_positions(model, means.window)
    if means.kernels is not None and means.form is not None and change is not batches:
        panels = Panels(means.kernels, means.kept)
        work = FitWork(model, attention, adapters, panels, means.form, trace(model, forward, attention))
        _check_windows(model, attention)
        change(work)
        if change is fused_layers:
            forward = shorten(model, whole, means.kernels, attention)
        tolerance = _TOLERANCE_INT8 if means.form is Format.INT8 else tolerance
        how = "with packed weights"
    if adapters.names:
        forward = AdaptedBatches(forward, adapters)
    trials.check(forward, tolerance, how)
    _check_windows(model, attention)
    return Fitted(forward, cache, panels=None if means.kept else panels, change=change.__name__)


def _serial(model: PreTrainedModel, means: Means, why: str) -> Fitted:
    """Run a model as it is, in the fastest way that says what `generate()` says; raise `LoadFailed`."""
    adapters = Adapters(means.adapters)
    adapters.attach(model)
    try:
        trials = Trials(model, adapters, alone=True)
    except LoadFailed:
        raise
    except Exception as error:
        _log.exception("generate() of transformers fails with the model")
        raise LoadFailed(f"the model cannot be run: {_reason(error)}; the log says more") from error
    if not trials.has_numbers:
        raise LoadFailed(f"the model computes no numbers: {_cause(model)}")
    failed = ""
    for reading in filter(lambda each: each.suits(model), Reading):
        try:
            _check_serial(model, adapters, trials, means, reading)
        except Exception as error:  # noqa: BLE001 - as above
            failed = _reason(error)
            _log.info("not run one answer at a time where %s: %s", reading.value, failed)
        else:
            _log.warning("the model runs one answer at a time, and %s: %s", reading.value, why)
            forward = _alone(model, adapters, reading, count_layers(model))
            return Fitted(forward, None, f"one answer at a time, and {reading.value}: {why}")
    raise LoadFailed(f"the model cannot be run: {failed}")


def _alone(model: PreTrainedModel, adapters: Adapters, reading: Reading, steps: StepCount | None = None) -> Forward:
    forward = SerialForward(model, reading, steps)
    return AdaptedSequences(forward, adapters) if adapters.names else forward


def _cause(model: PreTrainedModel) -> str:
    """Say why a model computes no numbers: which of its weights are none, as far as that is it."""
    names = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    if not names:
        return f"they are too large for {str(model.dtype).removeprefix('torch.')}; try another dtype"
    more = f" and in {len(names) - 1} more" if len(names) > 1 else ""
    return f"there is NaN or infinity in {names[0]}{more}; download or convert it again"


def _check_serial(model: PreTrainedModel, adapters: Adapters, trials: Trials, means: Means, reading: Reading) -> None:
    """Raise an exception unless reading so says what `generate()` says."""
    forward, tolerance = _alone(model, adapters, reading), _TOLERANCE_SERIAL[model.dtype]
    trials.check(forward, tolerance, f"where {reading.value}")
    if reading is not Reading.CHUNKS:
        return
    # What is read whole is what `generate()` reads; a chunk must also be what it reads beyond the trial's length.
    _check_positions(model, means.window)
    with narrowed(model) as found:
        if found:
            Trial(model, alone=True).check(forward, tolerance, f"where {reading.value} and go beyond a window")


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
        if (kind, heads.window) not in {("full_attention", 0), ("sliding_attention", window)}:
            raise UnsupportedAttention(f"a layer of the kind {kind}")
    if len(attention.heads) != config.num_hidden_layers:
        raise UnsupportedAttention("layers without attention")


def _check_positions(model: PreTrainedModel, window: int) -> None:
    """Refuse a model whose positions turn otherwise in a long sequence: those beside it in a batch would turn too."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    for each in (rope, *filter(lambda kind: isinstance(kind, dict), rope.values())):
        if (kind := each.get("rope_type")) in _COMMON_ROPES:
            original = each.get("original_max_position_embeddings") or config.max_position_embeddings
            if window > original:
                short = f"answers run together with a context of {original} or less"
                raise UnsupportedAttention(f"positions of the kind {kind} ({short})")
