"""Load a checked folder with transformers. Errors are one line that names the fault; the cause is logged."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gateway.engine import LoadFailed, loading_step
from gateway_hf.loading import checks as gate
from gateway_hf.loading.progress import told_by_transformers
from gateway_hf.loading.sizes import check_numbers
from gateway_hf.loading.sources import Source
from gateway_hf.text.codec import backend

_log = logging.getLogger("gateway_hf")

_PLAIN = "Hello, world! It is 12:30 already;\n(isn't it?)"
_PROBES = (_PLAIN, "Größe, naïve café", "你好世界", "🙂")
_PACKAGES = ("sentencepiece", "tiktoken", "protobuf")
_ROPES = {"default", "mrope", *ROPE_INIT_FUNCTIONS}
_LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


class ModelKind(NamedTuple):
    """What a folder is loaded as: the class of transformers, the types that it knows, and weights that may be missing.

    The `spare` weights are those that begin like one of these.
    """

    auto: type[_BaseAutoModelClass]
    types: Collection[str]
    spare: tuple[str, ...] = ()


CAUSAL = ModelKind(AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def check_type(source: Source, kind: ModelKind = CAUSAL) -> None:
    """Raise `LoadFailed` unless transformers itself has a model of the folder's type."""
    config = gate.read_json(source.folder / "config.json", source.name)
    named = config.get("model_type")
    if isinstance(named, str) and named in kind.types:
        return
    if config.get("auto_map"):
        raise LoadFailed(
            f"the model '{source.name}' needs code of its own ('auto_map' in config.json), which is never run"
        )
    raise LoadFailed(f"the model '{source.name}' is of a type that transformers knows no text model for")


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Load the folder's tokenizer and try it; raise `LoadFailed` for one that cannot be loaded or used."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.folder, **_LOCAL)
    except Exception as error:  # noqa: BLE001 - whatever a foreign file makes the libraries raise
        tokenizer = _read_file(source, error)
    _try(tokenizer, source)
    if not (source.folder / "tokenizer.json").is_file() and (source.folder / "tokenizer.model").is_file():
        _compare(tokenizer, source)
    return tokenizer


def _read_file(source: Source, error: Exception) -> PreTrainedTokenizerBase:
    """Load the tokenizer from its file alone, where its class cannot be made of it."""
    why = ""
    if (source.folder / "tokenizer.json").is_file():
        try:
            tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(source.folder, **_LOCAL)
        except Exception as second:  # noqa: BLE001 - as above
            error = second
        else:
            _log.warning(
                "the tokenizer of %s is made of its tokenizer.json alone, as transformers says: %s", source.name, error
            )
            return tokenizer
    elif needed := [package for package in _PACKAGES if package in str(error)]:
        why = f": it has no tokenizer.json, and what it has needs the package {needed[0]}"
    _log.error("the tokenizer of %s cannot be loaded", source.name, exc_info=error)
    raise LoadFailed(f"the tokenizer of the model '{source.name}'{_class_of(source)} cannot be loaded{why}") from error


def _try(tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
    """Encode and decode a probe text: some tokenizers load and then fail at every use."""
    try:
        known = backend(tokenizer)
        known.decode(known.encode(_PLAIN).ids)
        ids = known.encode(_PLAIN, add_special_tokens=False).ids
    except LoadFailed as error:
        raise LoadFailed(f"the model '{source.name}' is not supported: {error.message}{_class_of(source)}") from error
    except Exception as error:
        _log.exception("the tokenizer of %s fails", source.name)
        raise LoadFailed(
            f"the tokenizer of the model '{source.name}'{_class_of(source)} fails on plain text"
        ) from error
    if not ids:
        raise LoadFailed(f"the tokenizer of the model '{source.name}'{_class_of(source)} finds no tokens in plain text")


def _compare(tokenizer: PreTrainedTokenizerBase, source: Source) -> None:
    """Raise `LoadFailed` unless the tokenizer reads text as SentencePiece does with the file that it was made from."""
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 - few folders need it

    try:
        original = SentencePieceProcessor(model_file=str(source.folder / "tokenizer.model"))
    except (OSError, RuntimeError):
        return  # a file of another kind by the same name, as Llama 3's
    for probe in _PROBES:
        ids = backend(tokenizer).encode(probe, add_special_tokens=False).ids
        if ids != original.encode(probe):
            raise LoadFailed(
                f"the model '{source.name}' has no tokenizer.json, and made of its tokenizer.model"
                f"{_class_of(source)} the tokenizer reads {probe[:12]!r} otherwise"
            )


def _class_of(source: Source) -> str:
    """Name the tokenizer's class as its configuration does, in brackets."""
    file = source.folder / "tokenizer_config.json"
    name = gate.read_json(file, source.name).get("tokenizer_class") if file.is_file() else None
    return f" (of the class {name[:60]})" if isinstance(name, str) else ""


def read_model(source: Source, dtype: torch.dtype, device: torch.device, kind: ModelKind = CAUSAL) -> PreTrainedModel:
    """Load the folder's model, with all of its weights; raise `LoadFailed` for one that cannot be loaded."""
    try:
        config = _read_config(source.folder)
        check_numbers(config, gate.shapes(source.folder, source.name), source.name, kind.auto)
        with loading_step(_log, f"reading the weights of {source.name}") as tell, told_by_transformers(tell):
            read: Any = kind.auto.from_pretrained(
                source.folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                **_LOCAL,
            )
            model: PreTrainedModel = read[0].to(device).eval()
    except LoadFailed:
        raise
    except Exception as error:  # as above
        _log.exception("the model %s cannot be loaded", source.name)
        raise LoadFailed(f"the model '{source.name}' cannot be loaded: {_reason(source, error)}") from error
    if missing := {key for key in read[1]["missing_keys"] if not key.startswith(kind.spare)}:
        raise LoadFailed(f"the model '{source.name}' lacks {len(missing)} of its weights, such as '{min(missing)}'")
    return model


def _read_config(folder: Path) -> PreTrainedConfig:
    """Load the configuration, without the ways to compute that its authors chose."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, **_LOCAL)
    config._attn_implementation = None  # noqa: SLF001 - the only way to take it back
    config._experts_implementation = None  # noqa: SLF001 - as above
    return config


def _reason(source: Source, error: Exception) -> str:
    """Return the reason for a failed load, as far as the configuration shows it."""
    config = gate.read_json(source.folder / "config.json", source.name)
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, dict) else None
        if isinstance(kind, str) and kind not in _ROPES:
            return f"it scales its positions in an unknown way ('{kind[:60]}')"
    if isinstance(error, ImportError):
        return "transformers needs a package for it that is not installed; the log says which"
    return "its files do not fit together; the log says why"
