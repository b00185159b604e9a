"""Digests of large files, against damage: by pieces, in several threads at once."""

import hashlib
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

_PIECE = 1 << 20
_MOST_THREADS = 8


class FileDigest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The size of a file in bytes, and the SHA-256, in hexadecimal, of the CRC-32s of its pieces of 1 MiB.

    CRC-32 takes a third of the time of SHA-256, and finds any 32 bits in a row that differ. It is no match for intent,
    so the owner of a file is looked at elsewhere.
    """

    size: int
    digest: str


def digests(descriptors: Mapping[str, int]) -> dict[str, FileDigest]:
    """Read open files from their beginnings; return a digest for each name. Raise `OSError`."""
    sizes = {name: os.fstat(descriptor).st_size for name, descriptor in descriptors.items()}
    pieces = [(name, at) for name, size in sizes.items() for at in range(0, size, _PIECE)]
    whole = {name: hashlib.sha256() for name in descriptors}
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1), "digest") as pool:
        found = pool.map(lambda piece: _check_sum(descriptors[piece[0]], piece[1]), pieces)
        for (name, _), number in zip(pieces, found, strict=True):
            whole[name].update(number.to_bytes(4, "little"))
    return {name: FileDigest(sizes[name], digest.hexdigest()) for name, digest in whole.items()}


def _check_sum(descriptor: int, at: int) -> int:
    return zlib.crc32(os.pread(descriptor, _PIECE, at))
