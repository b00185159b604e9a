"""Load a smaller model that guesses what the one that is served will say."""

import logging
from typing import NamedTuple

import torch
from msgspec import structs
from transformers import PreTrainedTokenizerBase

from gateway.engine import LoadFailed, loading_step
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.packed import form_of
from gateway_hf.draft_model import DraftModel
from gateway_hf.loading import metadata as facts
from gateway_hf.loading import pretrained, sources
from gateway_hf.loading.few_bits import read_weights
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings

_log = logging.getLogger("gateway_hf")


class DraftPlace(NamedTuple):
    """What a draft model shares with the model that it guesses for: number format, device, kernels, blocks, tokens."""

    dtype: torch.dtype
    device: torch.device
    kernels: Kernels | None
    blocks: int
    tokenizer: PreTrainedTokenizerBase
    vocabulary: int


def load_draft(settings: Settings, place: DraftPlace, alone: str) -> DraftModel | None:
    """Load the model that `draft` names, if one is named; raise `LoadFailed`.

    `alone` says why the model that it is to guess for runs one answer at a time, if it does.
    """
    if settings.draft is None:
        return None
    if alone:
        raise LoadFailed(f"draft is for models that run several answers together: {alone}")
    own = structs.replace(settings, model=settings.draft, revision=None, served_name=None, adapters={})
    with loading_step(_log, "loading the draft model"):
        source = sources.find(own, place.dtype)
        try:
            return _load(own, place, source)
        except LoadFailed as error:
            if source.hold is not None:
                source.hold.close()
            raise LoadFailed(f"the draft model '{source.name}': {error.message}") from error


def _load(own: Settings, place: DraftPlace, source: Source) -> DraftModel:
    pretrained.check_type(source)
    tokenizer = pretrained.read_tokenizer(source)
    if tokenizer.get_vocab() != place.tokenizer.get_vocab():
        raise LoadFailed("it has other tokens than the model that it is to guess for")
    read = [read_weights(own, source, place.dtype, place.device)]
    window = facts.context_window(read[0], tokenizer)
    fitted = fit(
        lambda: read.pop() if read else read_weights(own, source, place.dtype, place.device),
        Means(place.blocks, place.kernels, form_of(place.dtype, own.quantize), window, rounded=own.kv_dtype == "int8"),
    )
    if not fitted.batched:
        raise LoadFailed(f"it has to run several answers together: {fitted.note}")
    return DraftModel(fitted.forward, window, place.vocabulary, source.hold)
