import os
import random

import pytest

from gateway.engine.digests import digests

_MIB = 1 << 20


@pytest.fixture
def digest_of(tmp_path):
    def digest(content):
        file = tmp_path / "file"
        file.write_bytes(content)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            return digests({"file": descriptor})["file"]
        finally:
            os.close(descriptor)

    return digest


@pytest.mark.parametrize("size", [0, 1, _MIB - 1, _MIB, _MIB + 1, 3 * _MIB + 5])
def test_equal_contents_have_equal_digests_and_their_size(digest_of, size):
    content = random.Random(size).randbytes(size)  # noqa: S311 - nothing is secret
    assert digest_of(content) == digest_of(content)
    assert digest_of(content).size == size


def test_any_damage_changes_the_digest(digest_of):
    """A flipped bit, zeros for a part, a part cut off, parts that changed places."""
    content = random.Random(0).randbytes(3 * _MIB + 5)  # noqa: S311 - nothing is secret
    seen = {digest_of(content)}
    for at in (0, _MIB - 1, _MIB, len(content) - 1):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        seen.add(digest_of(bytes(flipped)))
    seen.add(digest_of(content[:_MIB] + bytes(_MIB) + content[2 * _MIB :]))
    seen.add(digest_of(content[:-1]))
    seen.add(digest_of(content[:_MIB]))
    seen.add(digest_of(content[_MIB : 2 * _MIB] + content[:_MIB] + content[2 * _MIB :]))
    assert len(seen) == 9


def test_files_are_digested_each_by_itself(tmp_path):
    names = [f"file-{number}" for number in range(20)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number % 2]) * (number // 2 + _MIB))
    opened = {name: os.open(tmp_path / name, os.O_RDONLY) for name in names}
    found = digests(opened)
    for descriptor in opened.values():
        os.close(descriptor)
    assert [*found] == names
    assert len({*found.values()}) == len(names)
