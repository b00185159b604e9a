import os
import subprocess
import sys

import pytest

from gateway.engine import DiskCache


@pytest.fixture
def cache(tmp_path):
    """A cache of three: a folder, a file, and one that was used a long time ago."""
    made = DiskCache(tmp_path / "cache")
    for name in ("model", "old"):
        (made.folder / name).mkdir(parents=True)
        (made.folder / name / "weights").write_bytes(bytes(100))
    (made.folder / "kernels.so").write_bytes(bytes(10))
    os.utime(made.folder / "old", (1, 1))
    os.utime(made.folder / "kernels.so", (2, 2))
    return made


def names(cache):
    return [entry.path.name for entry in cache.entries()]


def test_entries_have_their_size_and_come_by_their_last_use(cache):
    assert names(cache) == ["model", "kernels.so", "old"]
    assert [(entry.size, entry.in_use) for entry in cache.entries()] == [(100, False), (10, False), (100, False)]


def test_a_folder_that_is_not_there_has_no_entries(tmp_path):
    cache = DiskCache(tmp_path / "none")
    assert (cache.entries(), cache.clear(), cache.shrink(0)) == ([], [], [])
    assert cache.hold(tmp_path / "none" / "model") is None


def test_what_is_hidden_is_no_entry(cache):
    (cache.folder / ".model.lock").write_text("")
    assert ".model.lock" not in names(cache)


def test_what_is_held_is_never_removed(cache):
    hold = cache.hold(cache.folder / "old")
    assert names(cache)[0] == "old"
    assert cache.remove(cache.folder / "old") is False
    assert [entry.path.name for entry in cache.clear()] == ["old"]
    assert cache.shrink(0) == []
    hold.close()
    assert cache.remove(cache.folder / "old") is True
    assert names(cache) == []


def test_a_hold_that_nothing_refers_to_is_none(cache):
    cache.hold(cache.folder / "model")
    assert cache.remove(cache.folder / "model")


def test_a_hold_of_another_process_counts_and_ends_with_it(cache):
    code = f"""
from pathlib import Path
from gateway.engine import DiskCache
hold = DiskCache(Path({str(cache.folder)!r})).hold(Path({str(cache.folder / "model")!r}))
print("held", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert next(entry.in_use for entry in cache.entries() if entry.path.name == "model")
        assert cache.remove(cache.folder / "model") is False
        other.kill()
        other.wait()
    assert cache.remove(cache.folder / "model") is True


def test_what_was_not_used_for_longest_goes_first_and_no_more_than_must(cache):
    assert [entry.path.name for entry in cache.shrink(120)] == ["old"]
    assert names(cache) == ["model", "kernels.so"]


def test_what_is_half_made_or_half_removed_is_cleared_too(cache):
    for name in (".removed-x-1", ".model.abc.part"):
        (cache.folder / name).mkdir()
    hold = cache.hold(cache.folder / ".model.abc.part")
    cache.clear()
    assert [path.name for path in cache.folder.iterdir()] == [".model.abc.part"]
    hold.close()
    cache.clear()
    assert list(cache.folder.iterdir()) == []


def test_a_link_leads_nowhere(cache, tmp_path):
    (tmp_path / "precious").mkdir()
    (cache.folder / "link").symlink_to(tmp_path / "precious")
    cache.clear()
    assert (tmp_path / "precious").is_dir()
