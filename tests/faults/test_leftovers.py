"""Whatever kills the main process, nothing that was started goes on, and the next start removes what is left."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.observe import eventually
from tests.support.processes import descendants, is_alive
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

pytestmark = pytest.mark.slow

PATIENCE = 30.0
# A compiler that works for minutes, in a child of its own as the real ones do, and writes temporary files.
COMPILER = """#!/bin/sh
sleep 600 &
echo $$ $! > {pids}.new
echo half > "${{TMPDIR:-/tmp}}/cc-half.s"
mv {pids}.new {pids}
wait
"""
ISOLATED = {"LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true"}
IN_THE_WORKER = {"LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "false"}


@pytest.fixture
def temporary():
    """The folder for temporary files, of every service that is given it as `TMPDIR`; short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny("llama", tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def compiling(tmp_path, temporary, model):
    """Make a service whose engine builds its kernels and never gets done; return it, and a wait for the compiler."""
    pids, compiler = tmp_path / "pids", tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text(COMPILER.format(pids=pids))
    compiler.chmod(0o755)
    environment = {
        "ENGINE": "hf",
        "MODEL_NAME": str(model),
        "PATH": f"{compiler.parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def found():
        return [int(pid) for pid in pids.read_text().split()] if pids.exists() else []

    return lambda **where: (Service(ready=False, **environment, **where), lambda: eventually(found, 4 * PATIENCE))


@pytest.mark.parametrize("where", [ISOLATED, IN_THE_WORKER], ids=["isolated", "in the worker"])
def test_a_compiler_ends_with_the_main_process_and_leaves_nothing_for_long(compiling, temporary, where):
    service, compilers = compiling(**where)
    with service:
        compiler = compilers()
        pids = [*compiler, *descendants(service.process.pid)]
        assert all(map(is_alive, compiler))
        service.process.kill()
        eventually(lambda: not any(map(is_alive, pids)), PATIENCE)
        assert list(temporary.iterdir())
    with Service(TMPDIR=str(temporary)):
        assert not list(temporary.rglob("cc-half.s"))
    assert list(temporary.iterdir()) == []


def test_a_compiler_ends_with_a_regular_end(compiling, temporary):
    service, compilers = compiling(**ISOLATED)
    with service:
        pids = [*compilers(), *descendants(service.process.pid)]
        service.process.terminate()
        assert service.process.wait(PATIENCE) == 0
        eventually(lambda: not any(map(is_alive, pids)), PATIENCE)
    assert list(temporary.iterdir()) == []


def test_the_next_start_removes_what_the_killed_have_left_and_nothing_else(temporary):
    foreign = temporary / "llm-gateway-notes"
    foreign.mkdir(mode=0o700)
    with Service(TMPDIR=str(temporary), **ISOLATED) as living:
        own = set(temporary.iterdir()) - {foreign}
        assert own
        for _ in range(2):
            with Service(TMPDIR=str(temporary), **ISOLATED) as killed:
                killed.process.kill()
                killed.process.wait()
                left = set(temporary.iterdir()) - own - {foreign}
                assert len(left) <= 2
        assert living.generate(prompt="a b").status_code == 200
        assert own <= set(temporary.iterdir())
    with Service(TMPDIR=str(temporary)):
        assert not left & set(temporary.iterdir())
    assert list(temporary.iterdir()) == [foreign]
