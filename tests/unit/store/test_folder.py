"""The bytes of files: private, whole or not at all, and of one process at a time."""

import os
import time
from pathlib import Path

import pytest

from gateway.store import Folder, StoreFileError


@pytest.fixture(params=["named", "unnamed"])
def folder(request, tmp_path):
    made = Folder(tmp_path / "deep" / "files" if request.param == "named" else None)
    yield made
    made.close()


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def put(folder, name, content=b"content"):
    descriptor = folder.begin(name)
    os.write(descriptor, content)
    folder.keep(name, descriptor)


def read(folder, name):
    with os.fdopen(folder.open(name), "rb") as file:
        return file.read()


def test_a_file_is_read_from_its_beginning_as_often_as_it_is_opened(folder):
    put(folder, "a")
    with os.fdopen(folder.open("a"), "rb") as other:
        assert other.read(3) == b"con"
        assert read(folder, "a") == b"content"
        assert other.read() == b"tent"


def test_what_is_given_up_or_removed_is_not_there(folder):
    folder.drop("a", folder.begin("a"))
    put(folder, "b")
    folder.remove("b")
    folder.remove("b")
    for name in "ab":
        with pytest.raises(FileNotFoundError):
            folder.open(name)


def test_files_and_their_folder_are_private_and_have_a_name_only_when_they_are_whole(tmp_path):
    folder = Folder(tmp_path / "files")
    descriptor = folder.begin("a")
    assert {path.name for path in folder.path.iterdir()} == {"a.part", "lock"}
    folder.keep("a", descriptor)
    assert {path.name for path in folder.path.iterdir()} == {"a", "lock"}
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o600}
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(mode=0o755), lambda path: path.symlink_to(path.parent)])
def test_a_folder_that_others_may_look_into_is_not_used(tmp_path, make):
    make(tmp_path / "files")
    with pytest.raises(StoreFileError, match="no folder of this user alone"):
        Folder(tmp_path / "files").begin("a")


def test_a_sweep_removes_what_belongs_to_nothing_once_it_is_old(tmp_path):
    folder = Folder(tmp_path / "files")
    for name in ("known", "old", "new"):
        put(folder, name)
    folder.begin("half")
    assert folder.lock()
    for name in ("known", "old", "half.part", "lock"):
        os.utime(folder.path / name, (1.0, 1.0))
    folder.sweep({"known"}, time.time() - 60)
    assert {path.name for path in folder.path.iterdir()} == {"known", "new", "lock"}
    folder.close()


def test_a_folder_is_had_by_one_at_a_time(tmp_path):
    one, other = Folder(tmp_path / "files"), Folder(tmp_path / "files")
    assert one.lock()
    assert one.lock()
    assert not other.lock()
    with pytest.raises(StoreFileError, match="another service uses it"):
        other.begin("a")
    one.close()
    assert other.lock()
    other.close()


def test_without_a_folder_nothing_is_left_of_the_files():
    folder = Folder(None)
    before = descriptors()
    put(folder, "a")
    assert folder.lock()
    folder.sweep((), time.time())
    assert read(folder, "a") == b"content"
    folder.close()
    assert descriptors() == before
