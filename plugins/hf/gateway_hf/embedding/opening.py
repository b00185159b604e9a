"""Open the folder of a model that computes texts: weights, tokenizer, and the facts for its card."""

import logging
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gateway.engine import Capability, LoadFailed, ModelCard
from gateway_hf.compute.fused_encoder import fuse_encoder
from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.native import NotBuiltError
from gateway_hf.compute.placement import choose_device, choose_dtype, choose_threads
from gateway_hf.compute.trial import Misfit
from gateway_hf.loading import metadata as facts
from gateway_hf.loading import pretrained, sources
from gateway_hf.loading.identity import build_of, fingerprint_of
from gateway_hf.loading.pretrained import ModelKind
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings, cache_folder
from gateway_hf.text.codec import TextCodec

_log = logging.getLogger("gateway_hf")
# The settings that change nothing of vectors and scores.
_GENERATING = (
    *("adapters", "quantize", "kv_dtype", "draft"),
    *("step_tokens", "cache_tokens", "compile_seconds", "compile_mib"),
)
TOKEN_CAPABILITIES = frozenset({Capability.TOKENIZE, Capability.TOKEN_COUNT, Capability.TOKENIZER_INFO})


class ModelSite(NamedTuple):
    """A checked folder, and what its model is computed with."""

    source: Source
    device: torch.device
    dtype: torch.dtype


class TextModel(NamedTuple):
    """A loaded model: `window` tokens of a text are read, `padding` is the token that fills a row.

    One that is `fused` is computed by kernels of our own.
    """

    site: ModelSite
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    window: int
    vocabulary: int
    padding: int
    fused: bool


def find_site(settings: Settings) -> ModelSite:
    """Find the folder and choose the device; raise `LoadFailed` where there is none."""
    plain = Settings()
    for name in _GENERATING:
        if getattr(settings, name) != getattr(plain, name):
            raise LoadFailed(f"the setting '{name}' is for models that generate, and this one makes vectors or scores")
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    if device.type == "cpu":
        torch.set_num_threads(choose_threads(settings))
    return ModelSite(sources.find(settings, dtype), device, dtype)


def open_model(site: ModelSite, kind: ModelKind, settings: Settings) -> TextModel:
    """Load the model of a folder and its tokenizer; raise `LoadFailed`, in one line, where that can never work."""
    pretrained.check_type(site.source, kind)
    tokenizer = pretrained.read_tokenizer(site.source)
    model = pretrained.read_model(site.source, site.dtype, site.device, kind)
    fused = site.device.type == "cpu" and settings.kernels == "auto" and _fuse(model, settings)
    window = _window(model, tokenizer)
    padding = tokenizer.pad_token_id
    return TextModel(
        site,
        model,
        tokenizer,
        min(window, settings.context_window or window),
        int(model.config.get_text_config().vocab_size),
        padding if isinstance(padding, int) else 0,
        fused,
    )


def card_of(opened: TextModel, settings: Settings, capabilities: frozenset[Capability]) -> ModelCard:
    """Make the card of a model that can do this beside telling its tokens."""
    source, spelled = opened.site.source, str(opened.site.dtype).removeprefix("torch.")
    build = build_of(source, spelled, kernels=opened.fused)
    return ModelCard(
        name=settings.served_name or source.name,
        aliases=source.aliases if settings.served_name is None else (source.name, *source.aliases),
        context_window=opened.window,
        capabilities=capabilities | TOKEN_CAPABILITIES,
        places=settings.places,
        vocabulary=opened.vocabulary,
        fingerprint=fingerprint_of(source, build),
        build=build,
        device=str(opened.site.device),
        dtype=spelled,
        note=source.note,
    )


def codec_of(opened: TextModel) -> TextCodec:
    """Make what tells the tokens of texts."""
    return TextCodec(opened.tokenizer, vocabulary=opened.vocabulary, context_window=opened.window)


def _fuse(model: PreTrainedModel, settings: Settings) -> bool:
    """Compute the layers by kernels of our own, where there are any for them; say whether there are."""
    threads = choose_threads(settings)
    try:
        fuse_encoder(model, Kernels(cache_folder(settings), threads))
    except NotBuiltError as error:
        _log.warning("computing without kernels, and slower: %s", error)
    except Misfit as error:
        _log.info("the layers are computed by torch's operations: %s", error)
    else:
        torch.set_num_threads(1)  # the kernels have a team of their own; two would fight over the cores
        return True
    return False


def _window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model reads; some count their places from behind the padding token's number."""
    window = facts.context_window(model, tokenizer)
    base = getattr(model, model.base_model_prefix, model)
    table = getattr(getattr(base, "embeddings", None), "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    return window if offset is None else window - offset - 1
