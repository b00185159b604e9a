"""Convert a GGUF file once into a folder of safetensors, kept in the cache folder."""

import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import gguf
import msgspec
import torch
from msgspec import Meta
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_utils,
)
from transformers import modeling_gguf_pytorch_utils as gguf_reader

from gateway.engine import Artifact, DiskCache, LoadFailed, loading_step, obtain, read_own, write_own
from gateway_hf.loading import blocks, gguf_checks, gguf_positions, gguf_tokens
from gateway_hf.loading import checks as gate
from gateway_hf.loading.causes import system_error
from gateway_hf.loading.gguf_file import GgufFile, PlainGgufReader
from gateway_hf.loading.progress import Tell, bar_for, told_by_transformers

_LOG = logging.getLogger(__name__)
# Counts up when what is written here changes.
_FORMAT = 4
_DIGESTS = ".digests.json"
_MOST_DIGESTS = 64
_LARGEST = 1 << 20
# Of a GGUF file, on two cores.
_BYTES_A_SECOND = 20 << 20


class Conversion(NamedTuple):
    """What a conversion is to hold: weights in a number format, and the file's own blocks beside them."""

    dtype: torch.dtype
    blocks: bool = False


class ConversionCache(NamedTuple):
    """The cache folder of conversions, and its limit in bytes."""

    folder: Path
    most: int


def converted(
    source: Path,
    wanted: Conversion,
    cache: ConversionCache,
    complete: Callable[[Path], None],
    expected: str | None = None,
) -> Artifact:
    """Return the conversion of `source` in the cache, which is made where it is missing or damaged.

    The key is the file's content, so copies of a file share one conversion. `complete` adds settings that the file
    lacks; `expected` is the SHA-256 that the file came with. Raise `LoadFailed` where the file is another, or cannot be
    converted, or the folder cannot be written to.
    """

    def make(folder: Path) -> None:
        gate.check_gguf_file(source)
        _convert(source, wanted, folder)
        complete(folder)

    kept = DiskCache(cache.folder)
    try:
        origin = _origin(source, wanted, complete, cache.folder)
        if expected not in (None, origin["content"]):
            raise LoadFailed(f"the GGUF file '{source.name}' is damaged: its SHA-256 is not the one that it came with")
        artifact = obtain(kept, source.stem, origin, make)
    except OSError as error:
        why = error.strerror or "it is not readable"
        _LOG.error("%s cannot be converted into the folder %s: %s", source, cache.folder, why)
        raise LoadFailed(
            f"the GGUF file '{source.name}' cannot be converted into the cache folder, which the log names: {why}"
        ) from error
    if artifact.is_new:
        for entry in kept.shrink(cache.most):
            held = cache.most >> 30
            _LOG.info("removed %s from the cache folder, which holds at most %d GiB", entry.path.name, held)
    return artifact


def leave(folder: Path) -> None:
    """Add nothing."""
    del folder


def _origin(source: Path, wanted: Conversion, complete: Callable[[Path], None], cache: Path) -> dict[str, int | str]:
    """Return everything that a conversion depends on."""
    return {
        "content": _digest(source, cache / _DIGESTS),
        "dtype": str(wanted.dtype).removeprefix("torch."),
        **({"blocks": "kept"} if wanted.blocks else {}),
        "completed": complete.__module__ if complete is not leave else "",
        "format": _FORMAT,
        **{library: version(library) for library in ("transformers", "gguf")},
    }


def _digest(source: Path, file: Path) -> str:
    """Return the digest of the content of `source`, remembered in `file` to avoid reading gigabytes at each start."""
    stat = source.stat()
    known = _digests(file)
    path, seen = str(source.resolve()), (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if path not in known or known[path][:-1] != seen:
        with source.open("rb") as opened:
            known.pop(path, None)
            known[path] = (*seen, hashlib.file_digest(opened, "sha256").hexdigest())
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_own(file, json.dumps(dict(list(known.items())[-_MOST_DIGESTS:])).encode())
    return known[path][-1]


_SeenDigest = tuple[int, int, int, Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]]


def _digests(file: Path) -> dict[str, _SeenDigest]:
    """Return the remembered digests; none if the file is missing, broken or another user's."""
    try:
        return msgspec.json.decode(read_own(file, _LARGEST), type=dict[str, _SeenDigest])
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        return {}


def _convert(source: Path, wanted: Conversion, folder: Path) -> None:
    """Write the file's contents as a folder; raise `LoadFailed` if transformers cannot read all of it."""
    try:
        with _reading_once():
            with loading_step(_LOG, f"reading {source.name}"):
                file = GgufFile(source)
                gguf_checks.check_before(file)
                _check_room(folder, sum(file.sizes().values()) * (wanted.dtype.itemsize + wanted.blocks))
            with loading_step(_LOG, f"converting the tokenizer of {source.stem}", "once, about 6 s"):
                tokenizer = gguf_tokens.completed(_read_tokenizer(source), file)
            about = f"once, about {max(source.stat().st_size // _BYTES_A_SECOND, 1)} s"
            with loading_step(_LOG, f"converting the weights of {source.stem}", about) as tell, _told(tell):
                model = _read_model(source, wanted.dtype, file)
            gguf_positions.restore_positions(file, model.config.get_text_config())
            if model.generation_config is not None:
                model.generation_config.eos_token_id = gguf_tokens.ends(file) or None
        model.hf_quantizer = None  # type: ignore[assignment] # else it counts as quantized, and those are not written
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if wanted.blocks:
            with loading_step(_LOG, f"keeping the blocks of {source.stem}"):
                blocks.write_blocks(file, model, folder)
    except (OSError, LoadFailed):
        raise
    except Exception as error:  # whatever a foreign file makes the libraries raise
        if shortage := system_error(error):
            raise shortage from error
        _LOG.exception("%s cannot be converted", source.name)
        raise LoadFailed(
            f"the GGUF file '{source.name}' cannot be converted: transformers does not read it; the log says why"
        ) from error


def _check_room(folder: Path, needed: int) -> None:
    """Raise `OSError` unless the folder's file system has so many bytes; a quota shows only while writing."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        short = f"{os.strerror(errno.ENOSPC)}: it takes about {_megabytes(needed)}, and {_megabytes(free)} are free"
        raise OSError(errno.ENOSPC, short)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


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
    """Let transformers parse the file once, by plain pieces.

    It reads the file four times, builds the table of names for each module, makes a list of numbers of each word of the
    vocabulary, and imports all that serves several devices to write a model that is on one.
    """
    with _PATCHING:  # engines load side by side
        names, parse = gguf.get_tensor_name_map, gguf_reader._gguf_parse_value  # type: ignore[attr-defined]  # noqa: SLF001 - it offers no other way
        with (
            _replaced(gguf, GGUFReader=functools.cache(PlainGgufReader), get_tensor_name_map=functools.cache(names)),
            _replaced(gguf_reader, _gguf_parse_value=functools.partial(_value, parse)),
            _replaced(modeling_utils, unwrap_model=lambda model, **_: model),
        ):
            yield


def _value(parse: Callable[..., Any], value: Any, types: Any) -> Any:  # noqa: ANN401 - whatever a file holds
    """Parse a value as `parse` does, a text by one copy."""
    is_text = types[-1:] == [gguf.GGUFValueType.STRING]
    return value.tobytes().decode() if is_text else parse(value, types)


@contextmanager
def _replaced(module: ModuleType, **values: object) -> Iterator[None]:
    kept = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(kept)


@contextmanager
def _told(tell: Tell) -> Iterator[None]:
    """Hear how many tensors transformers has read: that bar goes past the hook for all others."""
    bar = bar_for(lambda done, of: tell(done / of if of else 0.0))
    with told_by_transformers(lambda _: None), _replaced(gguf_reader, tqdm=bar):
        yield
