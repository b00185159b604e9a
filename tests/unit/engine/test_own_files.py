import os
import socket

import pytest

from gateway.engine import ForeignFile, own_files, read_own, write_own
from gateway.engine.own_files import open_own


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "file"
    made.write_bytes(b"content")
    return made


def test_a_file_of_this_user_is_read_no_further_than_asked(file):
    assert read_own(file, 100) == b"content"
    assert read_own(file, 3) == b"con"
    assert read_own(str(file), 100) == b"content"


def test_a_file_is_found_in_an_open_folder(file, tmp_path):
    folder = open_own(tmp_path)
    try:
        assert read_own("file", 100, folder=folder) == b"content"
    finally:
        os.close(folder)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_what_others_may_write_to_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(ForeignFile, match=rf"others may write to it \(its mode is {mode:04o}\)"):
        read_own(file, 100)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o555])
def test_what_others_may_only_read_is_taken(file, mode):
    file.chmod(mode)
    assert read_own(file, 100) == b"content"


def test_what_belongs_to_another_user_is_refused_and_what_is_roots_is_taken(file, monkeypatch):
    own = os.geteuid()
    for owner, reader, is_taken in ((own, own, True), (own, own + 1, own == 0)):
        monkeypatch.setattr(own_files.os, "geteuid", lambda reader=reader: reader)
        if is_taken:
            assert read_own(file, 100) == b"content"
        else:
            with pytest.raises(ForeignFile, match=rf"belongs to another user \({owner}\)"):
                read_own(file, 100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_takes_nothing_from_others(file):
    os.chown(file, 65534, 65534)
    with pytest.raises(ForeignFile, match=r"belongs to another user \(65534\)"):
        read_own(file, 100)


def test_a_link_is_not_followed(file, tmp_path):
    (tmp_path / "link").symlink_to(file)
    with pytest.raises(ForeignFile, match="symbolic link"):
        read_own(tmp_path / "link", 100)
    write_own(tmp_path / "link", b"new")
    assert file.read_bytes() == b"content"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_a_pipe_or_socket_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ForeignFile, match="neither a file nor a folder"):
        read_own(tmp_path / "pipe", 100)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_own(tmp_path / "socket", 100)


def test_a_file_is_written_for_this_user_alone_and_nothing_else_is_left(file, tmp_path):
    write_own(file, b"new")
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_the_old(file, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_own(file, b"new")
    assert file.read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: file.chmod(0o600), ""),
        (lambda file: file.chmod(0o400), ""),
        (lambda file: file.chmod(0o640), "its mode is 0640, so others may read it; it must be 0600"),
        (lambda file: file.chmod(0o601), "its mode is 0601, so others may read it; it must be 0600"),
    ],
)
def test_a_secret_is_for_its_owner_alone(file, make, why):
    make(file)
    assert own_files.not_private(file.stat()) == why


def test_a_secret_is_in_a_plain_file(tmp_path):
    assert own_files.not_private(tmp_path.stat()) == "it is no regular file"
