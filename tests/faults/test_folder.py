"""A service that is started in a folder with foreign modules imports none of them, in any of its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import engines, worker
from tests.support.service import Service

FOREIGN = ("litestar", "torch", "redis", "granian", "loguru", "msgspec", "uvloop", "gateway_echo", "transformers")
ISOLATED = {"LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true"}
TRAP = "import pathlib\npathlib.Path({told!r}).touch()\nraise ImportError('the current folder was on the path')\n"


@pytest.fixture
def folder(tmp_path):
    """A folder whose modules leave a mark when they are imported."""
    made = tmp_path / "project"
    made.mkdir()
    for name in FOREIGN:
        (made / f"{name}.py").write_text(TRAP.format(told=str(tmp_path / f"{name}.imported")))
    return made


def imported(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.parent.glob("*.imported"))


def test_a_service_imports_nothing_from_the_folder_it_is_started_in(folder):
    with Service(cwd=folder, **ISOLATED) as service:
        assert service.generate(prompt="a b").status_code == 200
        for pid in (*engines(service.process.pid), worker(service.process.pid)):
            assert Path(f"/proc/{pid}/cwd").readlink() == folder
    assert imported(folder) == []


@pytest.mark.parametrize("words", [["check"], ["engines"], ["--help"]], ids=" ".join)
def test_a_command_imports_nothing_from_the_folder_it_is_started_in(folder, words):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"ENGINE": "echo"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert imported(folder) == []
