"""Refuse a configuration whose sizes its weights cannot have, before anything of these sizes is built."""

import logging
import math
import re
from collections.abc import Iterable

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.initialization import no_init_weights
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from gateway.engine import LoadFailed

_log = logging.getLogger("gateway_hf")

Shape = tuple[int, ...]

# What there is of these, is there as a tensor at least, or as a row of one.
_LAYERS = re.compile(r"(.*_)?(layers?|blocks?|depth)")
_EXPERTS = re.compile(r"(.*_)?(experts?|codebooks?)")
# So many are built in a second or two, and some configurations count windows or the like.
_HARMLESS = 1_024
# How many times the numbers of its weights a model may have: those that are packed count as fewer, some are made up.
_TIMES = 4
_FEW = 1 << 20


def check_counts(config: Iterable[tuple[str, object]], shapes: list[Shape], name: str) -> None:
    """Raise `LoadFailed` where the pairs of a configuration count more layers or experts than the weights can have."""
    tensors = len(shapes)
    widest = max((size for shape in shapes for size in shape), default=0)
    for key, value in config:
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        most = tensors if _LAYERS.fullmatch(key) else max(tensors, widest) if _EXPERTS.fullmatch(key) else math.inf
        most = max(most, _HARMLESS)
        if value > most:
            raise LoadFailed(
                f"the configuration of the model '{name}' says {key[:60]} = {value}, and its weights have {tensors} "
                f"tensors, none longer than {widest}"
            )


def check_numbers(
    config: PreTrainedConfig, shapes: list[Shape], name: str, auto: type[_BaseAutoModelClass] = AutoModelForCausalLM
) -> None:
    """Raise `LoadFailed` where a configuration's model has far more numbers than its weights; it takes no memory."""
    held = sum(math.prod(shape) for shape in shapes)
    try:
        with torch.device("meta"), no_init_weights():
            model = auto.from_config(config)  # type: ignore[no-untyped-call] # so is the library
    except Exception as error:  # noqa: BLE001 - not every model can be built without memory: the load tells of its faults
        _log.debug("the size of %s is not known before its load: %r", name, error)
        return
    numbers = sum(weight.numel() for weight in model.parameters())
    if numbers > _TIMES * held + _FEW:
        raise LoadFailed(
            f"the configuration of the model '{name}' makes a model of {numbers:,} numbers, "
            f"and its weights have {held:,}"
        )
