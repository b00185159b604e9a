"""Find the folder to load a model from: a folder, a GGUF file, a Hub id, or the built-in model."""

from dataclasses import dataclass
from pathlib import Path

import torch

from gateway.engine import Artifact, Hold, LoadFailed
from gateway_hf.loading import builtin, builtin_embedding
from gateway_hf.loading import checks as gate
from gateway_hf.loading.sums import check_sums, listed_sum
from gateway_hf.settings import Settings, cache_folder

_BUILTIN = "builtin"
_BUILTIN_EMBEDDING = "builtin-embedding"


@dataclass(frozen=True)
class Source:
    """A checked folder and the names of its model; `hold` locks a folder in the cache.

    `content` is the SHA-256 of the file that the folder was converted from; empty where it is the original.
    """

    folder: Path
    name: str
    aliases: tuple[str, ...] = ()
    note: str = ""
    hold: Hold | None = None
    content: str = ""


def find(settings: Settings, dtype: torch.dtype) -> Source:
    """Return the checked folder of the model; raise `LoadFailed` where there is none."""
    source = _locate(settings, dtype)
    gate.check_folder(source.folder, source.name)
    if source.hold is None:  # a conversion has digests of its own
        check_sums(source.folder, gate.weight_files(source.folder, source.name), source.name)
    return source


def is_converted(settings: Settings) -> bool:
    """Say whether the model comes of a file that is converted first."""
    return settings.model == _BUILTIN or settings.model.endswith(".gguf")


def _locate(settings: Settings, dtype: torch.dtype) -> Source:
    model = settings.model
    if model == _BUILTIN:
        note = f"4-bit weights (Q4_1), {_computed(settings, dtype)}"
        made = _from_gguf(settings, builtin.locate(), dtype, builtin.expected_sum())
        return Source(made.hold.folder, builtin.NAME, builtin.ALIASES, note, made.hold, str(made.origin["content"]))
    if model == _BUILTIN_EMBEDDING:
        return Source(builtin_embedding.locate(), builtin_embedding.NAME, builtin_embedding.ALIASES)
    path = Path(model).expanduser()
    if is_converted(settings):
        note = f"quantized weights (GGUF), {_computed(settings, dtype)}"
        made = _from_gguf(settings, path, dtype, listed_sum(path))
        return Source(made.hold.folder, path.stem, (), note, made.hold, str(made.origin["content"]))
    if path.exists():
        return Source(path, path.resolve().name)
    if model.startswith(("/", ".", "~")):
        raise LoadFailed(f"there is no folder {model if model.startswith('.') else path.name}")
    from gateway_hf.loading import hub  # noqa: PLC0415 - a local model starts without the HTTP libraries

    return Source(hub.fetch(model, settings.revision), model.rpartition("/")[2], (model,))


def _from_gguf(settings: Settings, file: Path, dtype: torch.dtype, expected: str | None) -> Artifact:
    if not file.is_file():
        raise LoadFailed(f"the GGUF file '{file.name}' does not exist")
    from gateway_hf.loading import convert  # noqa: PLC0415 - only these need the libraries that read GGUF

    complete = builtin.complete if settings.model == _BUILTIN else convert.leave
    most = settings.cache_gib << 30
    cache = convert.ConversionCache(cache_folder(settings), most)
    wanted = convert.Conversion(dtype, settings.quantize == "gguf")
    return convert.converted(file, wanted, cache, complete, expected)


def _computed(settings: Settings, dtype: torch.dtype) -> str:
    if settings.quantize == "gguf":
        return "computed with as they are"
    return f"de-quantized to {str(dtype).removeprefix('torch.')}"
