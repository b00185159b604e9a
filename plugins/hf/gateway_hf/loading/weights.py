"""Load a model and all that the engine has to know of it; give its memory back."""

import ctypes
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from gateway.engine import Hold, LoadFailed, Sampling, loading_step
from gateway_hf.compute import native
from gateway_hf.compute.fitting import Fitted, Means, fit
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK, FORMATS, Kernels
from gateway_hf.compute.kv_cache import KvCache, blocks_for
from gateway_hf.compute.packed import form_of
from gateway_hf.compute.panel_cache import PanelCache
from gateway_hf.compute.placement import choose_device, choose_dtype, choose_threads
from gateway_hf.compute.reference import ReferenceAnswers
from gateway_hf.compute.trial import TRIAL_BLOCKS
from gateway_hf.compute.tuning import Candidates, ComputeChoice, tune
from gateway_hf.draft_model import DraftModel
from gateway_hf.loading import adapters, pretrained, sources
from gateway_hf.loading import metadata as facts
from gateway_hf.loading.adapters import LoadedAdapter
from gateway_hf.loading.draft import DraftPlace, load_draft
from gateway_hf.loading.few_bits import read_weights
from gateway_hf.loading.identity import build_of, fingerprint_of
from gateway_hf.loading.sources import Source
from gateway_hf.scheduling.blocks import Blocks
from gateway_hf.scheduling.drafter import Guessing
from gateway_hf.settings import Settings, cache_folder
from gateway_hf.text.codec import TextCodec

_log = logging.getLogger("gateway_hf")

# Beside more answers nothing is even looked up: a row more costs as much as a row, and an index takes memory.
_GUESSING = Guessing(answers=16, most=4)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, its tokenizer, and the facts for its card.

    `blocks` are those of its KV `cache`; `hold` locks its folder in the cache folder. Sequences choose among
    its `adapters` by their numbers, from 1 on. `build` names what answers depend on, and `root` what its weights came
    under. `kernels` compute and draw, where there are such. The `draft` model guesses for it.
    """

    forward: Forward
    cache: KvCache | None
    text: TextCodec
    blocks: Blocks
    guessing: Guessing
    name: str
    aliases: tuple[str, ...]
    context_window: int
    vocabulary: int
    eos_ids: frozenset[int]
    defaults: Sampling
    fingerprint: str
    build: dict[str, str]
    device: str
    dtype: str
    note: str
    root: str
    adapters: tuple[LoadedAdapter, ...]
    hold: Hold | None
    kernels: Kernels | None
    draft: DraftModel | None


def load(settings: Settings) -> LoadedModel:
    """Load the model that the settings name; raise `LoadFailed`, in one line, where that can never work."""
    device = choose_device(settings)
    _convert_meanwhile(settings, device)
    choice = _choose(settings, device)
    dtype = choose_dtype(settings, device) if device.type == "cuda" else getattr(torch, choice.dtype)
    torch.set_num_threads(choice.threads)
    source = sources.find(settings, dtype)
    pretrained.check_type(source)
    found = adapters.find_adapters(settings, source)
    tokenizer = pretrained.read_tokenizer(source)
    kind = _kind(settings, dtype)
    build = build_of(source, kind, kernels=choice.kernels)
    kernels = _kernels(settings, choice)
    said = _said(settings, source, kind, device)
    panels = _panels(settings, source, build)
    kept = None if kernels is None else panels.find(kernels)
    bare = kept is not None and said.are_kept and not found
    model = read_weights(settings, source, dtype, device, bare=bare)
    own = adapters.read_adapters(found, model, tokenizer, source.name)
    vocabulary = facts.vocabulary(model)
    window = min(facts.context_window(model, tokenizer), settings.context_window or sys.maxsize)
    rounded = settings.kv_dtype == "int8"
    tokens = facts.cache_tokens(model, settings.cache_tokens, window, rounded=rounded)
    window = min(window, tokens)
    eos_ids = facts.eos_ids(model, tokenizer, vocabulary)
    form = form_of(dtype, settings.quantize)
    count = max(blocks_for(tokens) + 1, TRIAL_BLOCKS)
    read = [model]
    del model
    fitted = _fit_out(
        lambda: read.pop() if read else read_weights(settings, source, dtype, device),
        Means(count, kernels, form, window, {each.name: each.changes for each in own}, said, rounded, kept, bare),
        panels,
    )
    if kernels is not None and fitted.batched:
        torch.set_num_threads(1)  # the kernels have a team of their own; two would fight over the cores
    return LoadedModel(
        forward=fitted.forward,
        cache=fitted.cache,
        text=TextCodec(tokenizer, vocabulary=vocabulary, context_window=window),
        blocks=_blocks(fitted.cache, count) if fitted.cache else Blocks(settings.places, window + 1),
        guessing=_GUESSING if fitted.cache else Guessing(0, 0),
        name=settings.served_name or source.name,
        aliases=source.aliases if settings.served_name is None else (source.name, *source.aliases),
        context_window=window,
        vocabulary=vocabulary,
        eos_ids=eos_ids,
        defaults=facts.sampling_defaults(source.folder, source.name),
        fingerprint=fingerprint_of(source, build),
        build=build,
        device=str(device),
        dtype=kind,
        note="; ".join(filter(None, (source.note, fitted.note))),
        root=(*source.aliases, source.name)[0],
        adapters=own,
        hold=source.hold,
        kernels=kernels,
        draft=load_draft(settings, DraftPlace(dtype, device, kernels, count, tokenizer, vocabulary), fitted.note),
    )


def _fit_out(load: Callable[[], PreTrainedModel], means: Means, panels: PanelCache) -> Fitted:
    """Fit the model out; what had to be packed is kept for the next start."""
    with loading_step(_log, "fitting out the model and checking it"):
        fitted = fit(load, means)
    if fitted.panels is not None:
        panels.keep_later(fitted.change, fitted.panels.made)
    return fitted._replace(panels=None)


def _blocks(cache: KvCache, count: int) -> Blocks:
    _log.info(
        "the cache of keys and values holds %d tokens in at most %.0f MiB", count * BLOCK, cache.nbytes / (1 << 20)
    )
    return Blocks(count, BLOCK)


def _kind(settings: Settings, dtype: torch.dtype) -> str:
    """Name the number format, before it what weights are rounded to, and behind it what keys and values are."""
    few = "" if settings.quantize == "none" else f"{settings.quantize} "
    kept = "" if settings.kv_dtype == "auto" else f", keys and values {settings.kv_dtype}"
    return f"{few}{str(dtype).removeprefix('torch.')}{kept}"


def _convert_meanwhile(settings: Settings, device: torch.device) -> None:
    """Convert the model for the likeliest number format while a compiler builds the kernels on another core.

    Where another format turns out to be faster, the model is converted once more.
    """
    building = native.is_beginning(cache_folder(settings))
    if building and sources.is_converted(settings) and device.type == "cpu" and choose_threads(settings) > 1:
        likely = torch.bfloat16 if settings.dtype == "auto" else getattr(torch, settings.dtype)
        if (hold := sources.find(settings, likely).hold) is not None:
            hold.close()


def _choose(settings: Settings, device: torch.device) -> ComputeChoice:
    """Choose number format, threads and kernels; on a CPU, open choices are measured."""
    cores = choose_threads(settings)
    if device.type != "cpu":
        if settings.quantize != "none":
            raise LoadFailed(f"quantize = {settings.quantize} is for the processor, not for a GPU")
        return ComputeChoice(settings.dtype, cores, kernels=False)
    first = str(choose_dtype(settings, device)).removeprefix("torch.")
    dtypes = [first, *({"bfloat16", "float32"} - {first})] if settings.dtype == "auto" else [first]
    threads = [settings.threads] if settings.threads else sorted({cores, max(1, cores // 2)}, reverse=True)
    kernels = (True, False) if _has_kernels(settings, first) else (False,)
    if settings.quantize != "none":
        kernels = (True,)
    return tune(settings.model, Candidates(tuple(dtypes), tuple(threads), kernels), cache_folder(settings))


def _has_kernels(settings: Settings, dtype: str) -> bool:
    """Say whether there are kernels for a number format; raise `LoadFailed` where few bits need them."""
    why = "they are switched off" if settings.kernels == "off" else f"there are none for {dtype}"
    if settings.kernels == "auto" and getattr(torch, dtype) in FORMATS:
        try:
            native.library(cache_folder(settings))
        except native.NotBuiltError as error:
            why = str(error)
            _log.warning("computing without kernels, and slower: %s", error)
        else:
            return True
    if settings.quantize != "none":
        raise LoadFailed(f"quantize = {settings.quantize} needs the kernels: {why}")
    return False


def _panels(settings: Settings, source: Source, build: dict[str, str]) -> PanelCache:
    """Return the place where packed weights are kept, by the build: what keys and values are has a say in smoothing."""
    origin = {"model": fingerprint_of(source, build)}
    return PanelCache(cache_folder(settings), source.name, origin, settings.cache_gib << 30)


def _said(settings: Settings, source: Source, kind: str, device: torch.device) -> ReferenceAnswers:
    """Return what the model itself said in a trial; that depends on no kernels of ours."""
    model = fingerprint_of(source, build_of(source, kind))
    return ReferenceAnswers(cache_folder(settings), {"model": model, "device": str(device)})


def _kernels(settings: Settings, choice: ComputeChoice) -> Kernels | None:
    """Return the kernels, where they were chosen."""
    return Kernels(cache_folder(settings), choice.threads) if choice.kernels else None


def settle() -> None:
    """Return to the system what a load has left over; collections of garbage pass over what stays from here on."""
    gc.collect()  # models refer to themselves: of what was packed, the originals are garbage, not gone
    gc.freeze()
    _trim()


def release() -> None:
    """Return the memory of an unreferenced model to the system."""
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _trim()


def _trim() -> None:
    """Give free memory back to the system; glibc alone can, and alone needs it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
