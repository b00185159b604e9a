import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.engine import DiskCache, artifact, obtain, recall

ORIGIN = {"source": "abc", "format": 1}
_CONTENT = {"weights": b"w" * 3_000_000, "config": b"{}", "deep/word": b"x"}


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache")


@pytest.fixture
def made():
    """Count how often something is made, and make it."""

    class Made:
        count = 0

        def __call__(self, folder):
            self.count += 1
            for name, content in _CONTENT.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content)

    return Made()


def test_what_was_made_is_found_again_under_any_name_and_only_read(cache, made):
    first = obtain(cache, "one", ORIGIN, made)
    assert first.is_new
    assert (first.folder.name[:4], first.folder.parent) == ("one-", cache.folder)
    before = sorted(path.stat().st_mtime_ns for path in first.folder.rglob("*"))
    second = obtain(cache, "two", ORIGIN, made)
    assert (second.folder, second.is_new, made.count) == (first.folder, False, 1)
    assert sorted(path.stat().st_mtime_ns for path in first.folder.rglob("*")) == before
    assert (second.hold.folder / "deep/word").read_bytes() == b"x"


def test_what_was_made_is_recalled_and_nothing_is_made_for_it(cache, made):
    assert recall(cache, ORIGIN) is None
    assert not cache.folder.exists()
    first, prepared = obtain(cache, "one", ORIGIN, made), []
    found = recall(cache, ORIGIN, prepared.append)
    assert (found.folder, found.is_new, made.count) == (first.folder, False, 1)
    assert len(prepared) == len(_CONTENT)  # each of its files, and not its marker
    (first.folder / "config").write_bytes(b"[]")
    assert recall(cache, ORIGIN) is None


def test_another_origin_is_another_artifact(cache, made):
    assert obtain(cache, "one", ORIGIN, made).folder != obtain(cache, "one", ORIGIN | {"format": 2}, made).folder


def test_it_is_in_use_while_it_is_held(cache, made):
    kept = obtain(cache, "one", ORIGIN, made)
    assert [entry.in_use for entry in cache.entries()] == [True]
    kept.hold.close()
    assert [entry.in_use for entry in cache.entries()] == [False]


def test_what_is_held_is_read_whatever_has_its_name(cache, made, tmp_path):
    kept = obtain(cache, "one", ORIGIN, made)
    kept.folder.rename(tmp_path / "aside")
    kept.folder.mkdir()
    (kept.folder / "config").write_bytes(b"planted")
    assert (kept.hold.folder / "config").read_bytes() == b"{}"


def cut(folder):
    (folder / "weights").write_bytes(_CONTENT["weights"][:-1])


def flip(folder):
    (folder / "weights").write_bytes(_CONTENT["weights"][:-1] + b"v")


def blank(folder):
    (folder / "weights").write_bytes(bytes(1_000_000) + _CONTENT["weights"][1_000_000:])


def drop(folder):
    (folder / "config").unlink()


def add(folder):
    (folder / "deep" / "more").write_text("")


def link(folder):
    (folder / "config").rename(folder.parent / "config")
    (folder / "config").symlink_to(folder.parent / "config")


def unmark(folder):
    (folder / "made.json").unlink()


def mismark(folder):
    (folder / "made.json").write_text("[]")


def bury(folder):
    (folder / "made.json").write_text("[" * 100_000)


def garble(folder):
    (folder / "made.json").write_bytes(b"\xff" * 100)


def outdate(folder):
    marker = json.loads((folder / "made.json").read_text())
    marker["origin"]["format"] = 0
    (folder / "made.json").write_text(json.dumps(marker))


def open_up(folder):
    (folder / "config").chmod(0o666)


def open_folder(folder):
    folder.chmod(0o777)


def replace(folder):
    shutil.rmtree(folder)
    folder.write_text("in the way")


def pipe(folder):
    shutil.rmtree(folder)
    os.mkfifo(folder)


def link_all(folder):
    folder.rename(folder.parent / "aside")
    folder.symlink_to(folder.parent / "aside")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "weights is not as it was written"),
        (flip, "weights is not as it was written"),
        (blank, "weights is not as it was written"),
        (drop, "config is missing"),
        (add, "deep/more is not as it was written"),
        (link, "config: it is a symbolic link"),
        *((each, "its made.json is missing or cannot be read") for each in (unmark, mismark, bury, garble)),
        (outdate, "its made.json is of something else"),
        (open_up, "config: others may write to it (its mode is 0666)"),
        (open_folder, "others may write to it (its mode is 0777)"),
        (replace, "Not a directory"),
        (pipe, "it is neither a file nor a folder"),
        (link_all, "it is a symbolic link"),
    ],
)
def test_what_is_damaged_is_named_and_made_anew(cache, made, caplog, damage, why):
    kept = obtain(cache, "one", ORIGIN, made)
    kept.hold.close()
    damage(kept.folder)
    again = obtain(cache, "one", ORIGIN, made)
    assert (again.folder, again.is_new, made.count) == (kept.folder, True, 2)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.startswith(f"{kept.folder.name} in the cache folder is not used, and made anew: ")
    assert why in told
    assert not obtain(cache, "one", ORIGIN, made).is_new


def test_one_that_is_damaged_is_replaced_even_in_use(cache, made):
    kept = obtain(cache, "one", ORIGIN, made)
    flip(kept.folder)
    assert obtain(cache, "one", ORIGIN, made).folder == kept.folder
    assert (kept.hold.folder / "config").parent != kept.folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("inside", ["", "weights", "made.json"])
def test_what_another_user_put_there_is_not_used(cache, made, caplog, inside):
    kept = obtain(cache, "one", ORIGIN, made)
    os.chown(kept.folder / inside, 65534, 65534)
    obtain(cache, "one", ORIGIN, made)
    assert made.count == 2
    assert "it belongs to another user (65534)" in caplog.text


def test_another_users_that_cannot_be_removed_stays_and_a_second_is_made_beside_it(cache, made, monkeypatch):
    """As in a folder like /tmp, where only owners may remove what is theirs."""
    kept = obtain(cache, "one", ORIGIN, made)
    open_folder(kept.folder)
    monkeypatch.setattr(DiskCache, "discard", lambda *_: False)
    again = obtain(cache, "one", ORIGIN, made)
    assert again.folder != kept.folder
    assert obtain(cache, "one", ORIGIN, made).folder == again.folder
    assert made.count == 2


def test_others_may_write_to_none_of_it(cache, made):
    before = os.umask(0)
    try:
        kept = obtain(cache, "one", ORIGIN, made)
    finally:
        os.umask(before)
    paths = [kept.folder, *(path for path in kept.folder.rglob("*") if path.is_file())]
    assert [path for path in paths if path.stat().st_mode & 0o022] == []
    assert cache.folder.stat().st_mode & 0o077 == 0
    assert not obtain(cache, "one", ORIGIN, made).is_new


def test_all_is_on_the_disk_before_it_has_its_name(cache, made, monkeypatch):
    """Each file, then the marker and the folder, then the name, and the name on the disk last."""
    done = []

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    fsync, rename = os.fsync, artifact.Path.rename
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(name_of(number)), fsync(number)))
    monkeypatch.setattr(artifact.Path, "rename", lambda path, to: (done.append("rename"), rename(path, to))[1])
    obtain(cache, "one", ORIGIN, made)
    *files, marker, part, renamed, folder = done
    assert sorted(files) == ["config", "weights", "word"]
    assert (marker, renamed, folder) == ("made.json", "rename", "cache")
    assert part.endswith(".part")


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(cache, raised):
    def fail(folder):
        (folder / "half").write_text("written")
        raise raised

    with pytest.raises(type(raised)):
        obtain(cache, "one", ORIGIN, fail)
    assert {path.suffix for path in cache.folder.iterdir()} == {".lock"}


def test_what_a_killed_process_left_is_swept_away(cache, made):
    kept = obtain(cache, "one", ORIGIN, made)
    half = cache.folder / f".{kept.folder.name}.abc.part"
    half.mkdir()
    unmark(kept.folder)
    obtain(cache, "one", ORIGIN, made)
    assert not half.exists()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "of another user"])
def test_what_is_in_the_place_of_the_lock_is_left_alone(cache, made, tmp_path, caplog, kind):
    if kind == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    cache.folder.mkdir()
    lock, precious = cache.folder / f".{artifact._key(ORIGIN)}.lock", tmp_path / "precious"
    precious.write_text("mine")
    {
        "link": lambda: lock.symlink_to(precious),
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "of another user": lambda: (lock.write_text("theirs"), os.chown(lock, 65534, 65534)),
    }[kind]()
    obtain(cache, "one", ORIGIN, made)
    assert made.count == 1
    assert precious.read_text() == "mine"
    assert f"the lock {lock} is not used" in caplog.text


def test_a_lock_that_is_there_keeps_its_content(cache, made):
    cache.folder.mkdir()
    lock = cache.folder / f".{artifact._key(ORIGIN)}.lock"
    lock.write_text("kept")
    obtain(cache, "one", ORIGIN, made)
    assert lock.read_text() == "kept"


def test_of_two_at_once_one_makes_it_and_one_waits(cache, made):
    together = threading.Barrier(2)

    def run(_):
        together.wait(10)
        return obtain(cache, "one", ORIGIN, made)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first.folder == second.folder
    assert made.count == 1


def test_of_two_without_a_lock_the_slower_uses_what_the_faster_made(cache, made, monkeypatch):
    monkeypatch.setattr(artifact, "_locked", lambda _: None)
    together = threading.Barrier(2)

    def make(folder):
        made(folder)
        together.wait(10)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: obtain(cache, "one", ORIGIN, make), range(2))
    assert first.folder == second.folder
    assert sorted((first.is_new, second.is_new)) == [False, True]
    assert [path for path in cache.folder.iterdir() if path.name.startswith(".")] == []


_READ_ONLY = """
import sys
from pathlib import Path
from gateway.engine import DiskCache, obtain
kept = obtain(DiskCache(Path(sys.argv[1])), "one", {origin!r}, None)
print((kept.hold.folder / "config").read_text())
"""


def test_in_a_folder_that_is_mounted_read_only_it_is_read(cache, made):
    obtain(cache, "one", ORIGIN, made).hold.close()
    mount = f"mount --bind {cache.folder} {cache.folder} && mount -o remount,bind,ro {cache.folder}"
    code = _READ_ONLY.format(origin=ORIGIN)
    script = f'{mount} || exit 77; touch {cache.folder}/x && exit 78; exec {sys.executable} -c "$0" {cache.folder}'
    ended = subprocess.run(
        [shutil.which("unshare") or "false", "--mount", "sh", "-c", script, code],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode in (1, 77):
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert ended.stdout == "{}\n", ended.stderr
