"""A folder goes with its maker, or at the next start; what is another's, or might be, is left alone."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.isolation import PrivateFolder, sweep

MAKER = """
import signal, sys, tempfile
from pathlib import Path
from gateway.isolation import PrivateFolder
tempfile.tempdir = sys.argv[1]
folder = PrivateFolder()
Path(folder.file("left")).write_text("x")
Path(folder.file("deep")).mkdir()
Path(folder.file("deep"), "link").symlink_to(sys.argv[2])
print(folder.path, flush=True)
signal.pause()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    root = tmp_path / "temporary"
    root.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    return root


@pytest.fixture
def maker(root, tmp_path):
    """A process with a folder, in which a link leads out of it; its `folder` is the path."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "kept").touch()
    command = [sys.executable, "-c", MAKER, str(root), str(tmp_path / "precious")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.folder = Path(process.stdout.readline().strip())
        yield process
        process.kill()


def test_a_folder_is_this_users_alone_until_it_is_removed(root):
    folder = PrivateFolder()
    assert Path(folder.path).parent == root
    assert stat.S_IMODE(Path(folder.path).stat().st_mode) == 0o700
    Path(folder.file("x")).touch()
    folder.remove()
    folder.remove()
    assert list(root.iterdir()) == []


def test_what_a_killed_process_has_left_is_swept_and_no_link_is_followed(maker, root, tmp_path):
    sweep()
    assert (maker.folder / "left").exists()
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    sweep()
    assert list(root.iterdir()) == []
    assert (tmp_path / "precious" / "kept").exists()


def test_the_folder_of_a_process_that_lives_is_left_alone_whoever_sweeps(root):
    folder = PrivateFolder()
    sweep()
    subprocess.run([sys.executable, "-c", f"from gateway.isolation import sweep; sweep({str(root)!r})"], check=True)
    assert Path(folder.file("lock")).exists()
    folder.remove()


def stale(root, name="llm-gateway-x"):
    """Make a folder whose maker is gone."""
    made = root / name
    made.mkdir(mode=0o700)
    (made / "lock").touch()
    return made


def test_a_stale_folder_is_swept(root):
    stale(root)
    sweep()
    assert list(root.iterdir()) == []


def spoil_name(made):
    return made.rename(made.with_name("other-gateway-x"))


def spoil_mode(made):
    made.chmod(0o770)
    return made


def spoil_lock(made):
    (made / "lock").unlink()
    return made


def link_lock(made):
    (made / "lock").rename(made / "own")
    (made / "lock").symlink_to("own")
    return made


def link_folder(made):
    elsewhere = made.rename(made.with_name("elsewhere"))
    made.symlink_to(elsewhere)
    return elsewhere


@pytest.mark.parametrize("spoil", [spoil_name, spoil_mode, spoil_lock, link_lock, link_folder])
def test_what_might_be_anothers_is_left_alone(root, spoil):
    kept = spoil(stale(root))
    before = sorted(kept.iterdir())
    sweep()
    assert sorted(kept.iterdir()) == before


def test_the_folder_of_another_user_is_left_alone(root, monkeypatch):
    made = stale(root)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    sweep()
    assert (made / "lock").exists()


def test_a_file_in_a_folders_place_and_no_folder_at_all_are_no_errors(root):
    (root / "llm-gateway-file").touch()
    sweep()
    assert (root / "llm-gateway-file").exists()
    sweep(str(root / "nowhere"))
