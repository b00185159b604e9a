"""Which model it is that answers, and with what it is computed."""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from transformers.utils.hub import CHAT_TEMPLATE_DIR

from gateway_hf.compute import native
from gateway_hf.loading import checks as gate
from gateway_hf.loading.sources import Source

_LIBRARIES = ("llm-gateway-hf", "transformers", "torch")
_TEXTS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.json"),
    *("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
)
# Bytes that are read of a tensor, at its begin and in its middle: all of a model would take as long as its load.
_SAMPLE = 512
_LETTERS = 12


def build_of(source: Source, dtype: str, *, kernels: bool = False) -> dict[str, str]:
    """Name all that an answer depends on, each part in a few letters: alike for the same files, wherever they lie.

    `weights` digests a sample of each tensor, or the file that they were converted from, `tokenizer` the texts beside
    them: configuration, tokenizer and chat template. `kernels` is `torch` where there are none of our own.
    """
    return {
        "weights": (source.content or _weights(source))[:_LETTERS],
        "tokenizer": _texts(source.folder)[:_LETTERS],
        "dtype": dtype,
        "kernels": native.digest()[:_LETTERS] if kernels else "torch",
        **{library: version(library) for library in _LIBRARIES},
    }


def fingerprint_of(source: Source, build: dict[str, str]) -> str:
    """Digest a build, and of the weights the sizes and times, for it reads but samples of them."""
    digest = hashlib.sha256(json.dumps(build, sort_keys=True).encode())
    for file in gate.weight_files(source.folder, source.name):
        stat = (source.folder / file).stat()
        digest.update(f"\0{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _texts(folder: Path) -> str:
    digest = hashlib.sha256()
    named = [f"{CHAT_TEMPLATE_DIR}/{template.name}" for template in folder.glob(f"{CHAT_TEMPLATE_DIR}/*.jinja")]
    for file in sorted({*_TEXTS, *named}):
        if (folder / file).is_file():
            digest.update(f"\0{file}\0".encode())
            digest.update((folder / file).read_bytes())
    return digest.hexdigest()


def _weights(source: Source) -> str:
    digest = hashlib.sha256()
    for file in gate.weight_files(source.folder, source.name):
        for piece in _samples(source.folder / file):
            digest.update(piece)
    return digest.hexdigest()


def _samples(file: Path) -> Iterator[bytes]:
    """Yield the header of a safetensors file that was checked, and samples of each tensor."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length)
        yield header
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            for at in (begin, (begin + end) // 2):
                opened.seek(8 + length + at)
                yield opened.read(min(_SAMPLE, end - at))
