"""Load a model and all that the engine has to know of it; give its memory back."""

import ctypes
import gc
import sys
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from gateway.engine import LoadFailed, Sampling
from gateway_hf import facts, gate, sources
from gateway_hf.placement import choose_device, choose_dtype, choose_threads
from gateway_hf.settings import Settings
from gateway_hf.sources import Source
from gateway_hf.text import TextCodec


@dataclass(frozen=True)
class Loaded:
    """A model in its place and in eval mode, its text side, and what its card says."""

    model: PreTrainedModel
    text: TextCodec
    name: str
    aliases: tuple[str, ...]
    context_window: int
    vocabulary: int
    eos_ids: frozenset[int]
    defaults: Sampling
    fingerprint: str
    device: str
    dtype: str
    note: str


def load(settings: Settings) -> Loaded:
    """Load the model that the settings name; raise `LoadFailed`, in one line, where that can never work."""
    disable_progress_bar()  # type: ignore[no-untyped-call] # so is the library
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    torch.set_num_threads(choose_threads(settings))
    source = sources.find(settings, dtype)
    _check_type(source)
    tokenizer = _read_tokenizer(source)
    model = _read_model(source, dtype, device)
    spelled = str(dtype).removeprefix("torch.")
    vocabulary = facts.vocabulary(model)
    window = min(facts.context_window(model, tokenizer), settings.context_window or sys.maxsize)
    return Loaded(
        model=model,
        text=TextCodec(tokenizer, vocabulary=vocabulary, context_window=window),
        name=settings.served_name or source.name,
        aliases=source.aliases if settings.served_name is None else (source.name, *source.aliases),
        context_window=window,
        vocabulary=vocabulary,
        eos_ids=facts.eos_ids(model, tokenizer),
        defaults=facts.sampling_defaults(source.folder, source.name),
        fingerprint=facts.fingerprint(source.folder, gate.weight_files(source.folder, source.name), spelled),
        device=str(device),
        dtype=spelled,
        note=source.note,
    )


def release() -> None:
    """Give back to the system what a model held, once nothing refers to it any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it, and alone needs it
    if trim is not None:
        trim(0)


def _check_type(source: Source) -> None:
    kind = gate.read_json(source.folder / "config.json", source.name).get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise LoadFailed(f"the model '{source.name}' is of a type that transformers knows no text model for")


def _read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a foreign file makes the libraries raise
        raise LoadFailed(f"the tokenizer of the model '{source.name}' cannot be loaded") from error


def _read_model(source: Source, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    try:
        read: Any = AutoModelForCausalLM.from_pretrained(
            source.folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        model: PreTrainedModel = read[0].to(device).eval()
    except Exception as error:  # as above
        raise LoadFailed(f"the model '{source.name}' cannot be loaded: its files do not fit together") from error
    if missing := read[1]["missing_keys"]:
        raise LoadFailed(f"the model '{source.name}' lacks {len(missing)} of its weights, such as '{min(missing)}'")
    return model
