"""Check a model's folder before loading it: complete, supported, and without a way to run code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.engine import LoadFailed
from gateway_hf.loading.formats import MalformedFile, check_gguf, check_safetensors
from gateway_hf.loading.sizes import Shape, check_counts

_PICKLES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
_CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "processor_config.json",
)
_MAX_CONFIG = 200_000_000
_INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_BOM = b"\xef\xbb\xbf"
# Ways of attending that are part of transformers. Which one the model's authors used says nothing of the model.
_ATTENTION = frozenset({"eager", "sdpa", "flex_attention", *(f"flash_attention_{version}" for version in (2, 3, 4))})
# transformers turns such weights into plain numbers where nothing computes with them as they are.
_DEQUANTIZED = frozenset({"mxfp4"})


def check_folder(folder: Path, name: str) -> None:
    """Raise `LoadFailed` unless the folder is a whole model, in safetensors that are not quantized, of its own sizes.

    Code that a folder brings (`auto_map`) is never run: a model type that transformers knows does without it.
    """
    if not folder.is_dir():
        raise LoadFailed(f"the model '{name}' is no folder")
    if (folder / ADAPTER).is_file():
        _refuse_adapter(folder, name)
    if not (folder / "config.json").is_file():
        raise LoadFailed(f"the model '{name}' has no config.json: it is not a model's folder")
    for path in sorted(folder.glob("*.json")):
        _refuse_mark(path, name)
    for config in _CONFIGS:
        if (folder / config).is_file():
            _refuse_unsupported(read_json(folder / config, name), config, name)
    check_counts(_keys(read_json(folder / "config.json", name)), shapes(folder, name), name)


def shapes(folder: Path, name: str) -> list[Shape]:
    """Return the shapes of all weights; raise `LoadFailed` where a file is missing or damaged."""
    found: list[Shape] = []
    for file in weight_files(folder, name):
        try:
            found += check_safetensors(folder / file)
        except (MalformedFile, OSError) as error:
            raise LoadFailed(f"the weights file '{file}' of the model '{name}' is damaged: {_why(error)}") from error
    return found


def check_gguf_file(file: Path) -> None:
    """Raise `LoadFailed` unless the file is a whole GGUF file."""
    try:
        check_gguf(file)
    except (MalformedFile, OSError) as error:
        raise LoadFailed(f"the GGUF file '{file.name}' is damaged: {_why(error)}") from error


def read_json(file: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a model's file; raise `LoadFailed` where there is none."""
    found = _read(file, name)
    if not isinstance(found, dict):
        raise LoadFailed(f"the file '{file.name}' of the model '{name}' is not a JSON object")
    return found


def read_list(file: Path, name: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a list in a model's file; raise `LoadFailed` where there is none."""
    found = _read(file, name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise LoadFailed(f"the file '{file.name}' of the model '{name}' is not a list of JSON objects")
    return found


def _read(file: Path, name: str) -> object:
    try:
        if file.stat().st_size > _MAX_CONFIG:
            raise LoadFailed(f"the file '{file.name}' of the model '{name}' is far too large")
        return json.loads(file.read_bytes().decode())
    except OSError as error:
        raise LoadFailed(f"the file '{file.name}' of the model '{name}' cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"the file '{file.name}' of the model '{name}' is not JSON") from error


def weight_files(folder: Path, name: str) -> list[str]:
    """List the safetensors files that hold the weights; raise `LoadFailed` where there are none."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    if (folder / _INDEX).is_file():
        return _indexed(folder, name)
    if any(file.suffix in _PICKLES for file in folder.iterdir()):
        raise LoadFailed(
            f"the model '{name}' has its weights as pickles only, which can run code: convert them to safetensors"
        )
    raise LoadFailed(f"the model '{name}' has no weights in safetensors")


def _indexed(folder: Path, name: str) -> list[str]:
    index = read_json(folder / _INDEX, name)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(file, str) for file in shards.values()):
        raise LoadFailed(f"the file '{_INDEX}' of the model '{name}' names no weights")
    files = sorted(set(shards.values()))
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise LoadFailed(f"the file '{_INDEX}' of the model '{name}' names a file outside the folder")
        if not (folder / file).is_file():
            raise LoadFailed(f"the weights file '{file}' of the model '{name}' is missing")
    if not isinstance(index.get("metadata"), dict):
        raise LoadFailed(
            f"the file '{_INDEX}' of the model '{name}' has no 'metadata' beside its 'weight_map'; add {{}}"
        )
    return files


def _refuse_adapter(folder: Path, name: str) -> None:
    beside = " beside the weights; remove the file to serve these alone" if (folder / "config.json").is_file() else ""
    raise LoadFailed(
        f"the model '{name}' is an adapter ('{ADAPTER}'{beside}): name its base as the model, and it in 'adapters'"
    )


def _refuse_mark(file: Path, name: str) -> None:
    with file.open("rb") as opened:
        if opened.read(len(_BOM)) == _BOM:
            raise LoadFailed(f"the file '{file.name}' of the model '{name}' begins with a byte order mark: remove it")


def _refuse_unsupported(config: dict[str, Any], file: str, name: str) -> None:
    """Raise `LoadFailed` for settings that would load code or other weights, and for quantized weights."""
    for key, value in _keys(config):
        # Older versions of transformers write a bare flag of this kind; a name could fetch a kernel.
        if (
            "attn_implementation" in key
            and not isinstance(value, bool)
            and value is not None
            and value not in _ATTENTION
        ):
            raise LoadFailed(f"the model '{name}' chooses its own attention code ('{key[:60]}' in {file})")
        if key == "transformers_weights" and value:
            raise LoadFailed(f"the model '{name}' names its weights itself ('{key}' in {file}), which is not supported")
        if key in {"quantization_config", "compression_config"} and isinstance(value, dict) and value:
            _refuse_quantized(value, name)


def _refuse_quantized(config: dict[str, Any], name: str) -> None:
    method = config.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in config else "an unknown method")
    if method not in _DEQUANTIZED:
        raise LoadFailed(
            f"the weights of the model '{name}' are quantized ({str(method)[:60]}), which is not supported: "
            "use the original weights, or a GGUF file"
        )


def _keys(value: object) -> Iterator[tuple[str, object]]:
    """Walk all keys of the objects in a JSON value, however deep."""
    pending = [value]
    while pending:
        match pending.pop():
            case dict(entries):
                yield from entries.items()
                pending.extend(entries.values())
            case list(items):
                pending.extend(items)


def _why(error: MalformedFile | OSError) -> str:
    return str(error) if isinstance(error, MalformedFile) else error.strerror or "it cannot be read"
