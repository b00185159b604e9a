"""Find the folder to load a model from: a folder, a GGUF file, a Hub id, or the built-in model."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gateway.engine import LoadFailed
from gateway_hf.loading import builtin
from gateway_hf.loading import checks as gate
from gateway_hf.settings import Settings

_CACHE = Path(".cache", "llm-gateway")
_BUILTIN = "builtin"


@dataclass(frozen=True)
class Source:
    """A folder that passed the gate, and what its model is called."""

    folder: Path
    name: str
    aliases: tuple[str, ...] = ()
    note: str = ""


def find(settings: Settings, dtype: torch.dtype) -> Source:
    """Return the checked folder of the model; raise `LoadFailed` where there is none."""
    source = _locate(settings, dtype)
    gate.check_folder(source.folder, source.name)
    return source


def cache_folder(settings: Settings) -> Path:
    """Return the folder for what is made once and kept."""
    return Path(settings.cache_folder).expanduser() if settings.cache_folder else Path.home() / _CACHE


def _locate(settings: Settings, dtype: torch.dtype) -> Source:
    model = settings.model
    if model == _BUILTIN:
        note = f"4-bit weights (Q4_1), de-quantized to {_spelled(dtype)}"
        folder = _from_gguf(settings, builtin.locate(), dtype)
        return Source(folder, builtin.NAME, builtin.ALIASES, note)
    path = Path(model).expanduser()
    if model.endswith(".gguf"):
        note = f"quantized weights (GGUF), de-quantized to {_spelled(dtype)}"
        return Source(_from_gguf(settings, path, dtype), path.stem, note=note)
    if path.exists():
        return Source(path, path.resolve().name)
    if model.startswith(("/", ".", "~")):
        raise LoadFailed(f"there is no folder {model if model.startswith('.') else path.name}")
    from gateway_hf.loading import hub  # noqa: PLC0415 - a local model starts without the HTTP libraries

    return Source(hub.fetch(model, settings.revision), model.rpartition("/")[2], (model,))


def _from_gguf(settings: Settings, file: Path, dtype: torch.dtype) -> Path:
    if not file.is_file():
        raise LoadFailed(f"the GGUF file '{file.name}' does not exist")
    from gateway_hf.loading import convert  # noqa: PLC0415 - only these need the libraries that read GGUF

    complete = builtin.complete if settings.model == _BUILTIN else convert.leave
    return convert.converted(file, dtype, cache_folder(settings), complete)


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
