"""Convert a GGUF file once into a folder of safetensors, in a cache that finds and mends its own damage."""

import fcntl
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import msgspec
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import modeling_gguf_pytorch_utils as gguf_reader

from gateway.engine import DiskCache, Hold, LoadFailed, loading_step
from gateway_hf.loading import checks as gate
from gateway_hf.loading import gguf_checks, gguf_positions, gguf_tokens
from gateway_hf.loading.gguf_file import GgufFile
from gateway_hf.loading.progress import Tell, bar_for, told_by_transformers

_LOG = logging.getLogger(__name__)
_MARKER = "converted.json"
# Counts up when what is written here changes.
_FORMAT = 3
_DIGESTS = ".digests.json"
_MOST_DIGESTS = 64
# Of a GGUF file, on two cores.
_BYTES_A_SECOND = 20 << 20


class ConversionCache(NamedTuple):
    """The cache folder of conversions, and its limit in bytes."""

    folder: Path
    most: int


def converted(
    source: Path, dtype: torch.dtype, cache: ConversionCache, complete: Callable[[Path], None]
) -> tuple[Path, Hold | None]:
    """Return the converted folder of `source` and its lock in the cache; convert where it is missing or damaged.

    The key is the file's content, so copies of a file share one conversion. `complete` adds settings that the file
    lacks. Of two concurrent processes, one converts and the other waits. A complete folder is only read.
    """
    kept = DiskCache(cache.folder)
    try:
        origin = _origin(source, dtype, complete, cache.folder)
        folder = _find(cache.folder, source.stem, origin)
        hold = kept.hold(folder)
        if not _is_whole(folder, origin):
            cache.folder.mkdir(parents=True, exist_ok=True)
            with _locked(cache.folder / f".{_key(origin)}.lock"):
                folder = _find(cache.folder, source.stem, origin)
                if not _is_whole(folder, origin):
                    gate.check_gguf_file(source)
                    _clear(folder)
                    with _finished_in(folder, origin) as part:
                        hold = kept.hold(part)
                        _convert(source, dtype, part)
                        complete(part)
                else:
                    hold = kept.hold(folder)
            _shrink(kept, cache.most)
    except OSError as error:
        why = error.strerror or "it is not readable"
        raise LoadFailed(f"the GGUF file '{source.name}' cannot be converted into the cache folder: {why}") from error
    return folder, hold


def leave(folder: Path) -> None:
    """Add nothing."""
    del folder


def _origin(source: Path, dtype: torch.dtype, complete: Callable[[Path], None], cache: Path) -> dict[str, int | str]:
    """Return everything that a conversion depends on."""
    return {
        "content": _digest(source, cache / _DIGESTS),
        "dtype": str(dtype).removeprefix("torch."),
        "completed": complete.__module__ if complete is not leave else "",
        "format": _FORMAT,
        **{library: version(library) for library in ("transformers", "gguf")},
    }


def _key(origin: dict[str, int | str]) -> str:
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]


def _find(cache: Path, stem: str, origin: dict[str, int | str]) -> Path:
    """Return the path of an existing conversion under any file name, else the path for a new one."""
    key = _key(origin)
    return next(
        (path for path in sorted(cache.glob(f"*-{key}")) if not path.name.startswith(".")), cache / f"{stem}-{key}"
    )


def _digest(source: Path, file: Path) -> str:
    """Return the digest of the content of `source`, remembered in `file` to avoid reading gigabytes at each start."""
    stat = source.stat()
    known = _digests(file)
    path, seen = str(source.resolve()), [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    if known.get(path, [])[:-1] != seen:
        with source.open("rb") as opened:
            known.pop(path, None)
            known[path] = [*seen, hashlib.file_digest(opened, "sha256").hexdigest()]
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            half = file.with_suffix(f".{os.getpid()}")
            half.write_text(json.dumps(dict(list(known.items())[-_MOST_DIGESTS:])))
            half.replace(file)
    return str(known[path][-1])


def _digests(file: Path) -> dict[str, list[int | str]]:
    """Return the remembered digests; none if the file is missing or broken."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, list[int | str]])
    except (OSError, msgspec.DecodeError):
        return {}


def _shrink(kept: DiskCache, most: int) -> None:
    for entry in kept.shrink(most):
        _LOG.info("removed %s from the cache folder, which holds at most %d GiB", entry.path.name, most >> 30)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock; the system releases it when the process dies."""
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path, origin: dict[str, int | str]) -> bool:
    """Tell whether the folder is a complete, unchanged conversion of this origin."""
    try:
        marker = json.loads((folder / _MARKER).read_bytes())
        if marker["origin"] != origin or marker["files"] != _sizes(folder):
            return False
        gate.check_folder(folder, folder.name)
    except (OSError, ValueError, KeyError, TypeError, LoadFailed):
        return False
    return True


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name != _MARKER}


def _clear(folder: Path) -> None:
    """Remove a broken conversion and the partial folders of killed processes; call it under the lock."""
    for remains in (folder, *folder.parent.glob(f".{folder.name}.*.part")):
        if remains.is_dir() and not remains.is_symlink():
            shutil.rmtree(remains)
        else:
            remains.unlink(missing_ok=True)


@contextmanager
def _finished_in(folder: Path, origin: dict[str, int | str]) -> Iterator[Path]:
    """Give a folder to write into; it becomes `folder` at once and whole, or is removed."""
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield part
        marker = {"origin": origin, "files": _sizes(part)}
        (part / _MARKER).write_text(json.dumps(marker, indent=2) + "\n")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _convert(source: Path, dtype: torch.dtype, folder: Path) -> None:
    """Write the file's contents as a folder; raise `LoadFailed` if transformers cannot read all of it."""
    try:
        with _reading_once():
            with loading_step(_LOG, f"reading {source.name}"):
                file = GgufFile(source)
                gguf_checks.check_before(file)
            with loading_step(_LOG, f"converting the tokenizer of {source.stem}", "once, about 6 s"):
                tokenizer = gguf_tokens.completed(_read_tokenizer(source), file)
            about = f"once, about {max(source.stat().st_size // _BYTES_A_SECOND, 1)} s"
            with loading_step(_LOG, f"converting the weights of {source.stem}", about) as tell, _told(tell):
                model = _read_model(source, dtype, file)
            gguf_positions.restore_positions(file, model.config.get_text_config())
            if model.generation_config is not None:
                model.generation_config.eos_token_id = gguf_tokens.ends(file) or None
        model.hf_quantizer = None  # type: ignore[assignment] # else it counts as quantized, and those are not written
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (OSError, LoadFailed):
        raise
    except Exception as error:  # whatever a foreign file makes the libraries raise
        _LOG.exception("%s cannot be converted", source.name)
        raise LoadFailed(
            f"the GGUF file '{source.name}' cannot be converted: transformers does not read it; the log says why"
        ) from error


def _read_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)


def _read_model(source: Path, dtype: torch.dtype, file: GgufFile) -> PreTrainedModel:
    read: Any = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
        attn_implementation="sdpa",
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    model: PreTrainedModel = read[0]
    gguf_checks.check_after(file, model, set(read[1]["missing_keys"]))
    return model


_PATCHING = threading.Lock()


@contextmanager
def _reading_once() -> Iterator[None]:
    """Let transformers parse the file once; it reads it four times, and builds the table of names for each module."""
    with _PATCHING:  # engines load side by side
        reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
        gguf.GGUFReader = functools.cache(reader)  # type: ignore[misc,assignment] # a function makes readers as well
        gguf.get_tensor_name_map = functools.cache(names)
        try:
            yield
        finally:
            gguf.GGUFReader, gguf.get_tensor_name_map = reader, names  # type: ignore[misc]


@contextmanager
def _told(tell: Tell) -> Iterator[None]:
    """Hear how many tensors transformers has read: that bar goes past the hook for all others."""
    with told_by_transformers(lambda _: None):
        bar = gguf_reader.tqdm  # type: ignore[attr-defined] # it is not meant for others
        gguf_reader.tqdm = bar_for(lambda done, of: tell(done / of if of else 0.0))  # type: ignore[attr-defined]
        try:
            yield
        finally:
            gguf_reader.tqdm = bar  # type: ignore[attr-defined]
