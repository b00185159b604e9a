"""A start that is broken off: by a signal, at any moment, or by a model that cannot be loaded."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.observe import eventually
from tests.support.processes import is_alive
from tests.support.service import Service, free_port

LOAD = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__LOAD"
NONE = {"ENGINE": "hf", "MODEL_NAME": "./no-such-folder"}

# An engine that loads in a thread which nobody can stop.
STUBBORN = """
import asyncio
import time
from msgspec import Struct
from gateway.engine import Engine, Plugin

class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass

class Stubborn(Engine):
    def __init__(self, settings):
        pass

    async def __aenter__(self):
        await asyncio.to_thread(time.sleep, 300)

    def models(self):
        return []

    async def generate(self, request):
        yield None

plugin = Plugin(Settings, Stubborn)
"""


def worker(service):
    """Wait for the worker process."""
    until = time.monotonic() + 30
    while not (children := psutil.Process(service.process.pid).children()):
        assert time.monotonic() < until, service.output
    return children[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 0.6])
def test_a_signal_while_the_worker_starts_ends_the_service(number, delay):
    with Service(ready=False) as service:
        started = worker(service)
        time.sleep(delay)
        service.process.send_signal(number)
        assert service.process.wait(15) == 0  # a signal that is lost costs the 35 s until the worker is killed
        assert not started.is_running()
        assert "Traceback" not in service.output


def test_ctrl_c_on_a_terminal_ends_the_service_while_it_starts():
    """A terminal signals the whole group in the foreground; the server and its worker have a session of their own."""
    with Service(ready=False, leads=True) as service:
        eventually(lambda: os.getpgid(worker(service).pid) != service.process.pid, 20)
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.process.wait(15) == 0
        assert "Traceback" not in service.output


def test_a_worker_whose_parent_is_killed_while_it_starts_does_not_serve_on():
    with Service(ready=False) as service:
        started = worker(service)
        service.process.kill()
        eventually(lambda: not is_alive(started.pid), 20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_model_loads_ends_the_service(number):
    with Service(ready=False, ENGINE="scripted", **{LOAD: "300"}) as service:
        service.wait_for("/livez")
        service.process.send_signal(number)
        assert service.process.wait(15) == 0
        assert "draining" not in service.output


def test_a_load_that_cannot_be_stopped_keeps_nobody(tmp_path):
    (tmp_path / "stubborn_engine.py").write_text(STUBBORN)
    info = tmp_path / "stubborn_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llm_gateway.engines]\nstubborn = stubborn_engine:plugin\n")
    with Service(ready=False, ENGINE="stubborn", PYTHONPATH=str(tmp_path)) as service:
        service.wait_for("/livez")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(15) == 0


def test_where_no_engine_can_load_the_command_ends_and_says_why_once():
    with Service(ready=False, **NONE) as service:
        assert service.process.wait(60) == 3
        assert service.output.count("there is no folder ./no-such-folder") == 1
        assert service.output.endswith("\nllm-gateway: no engine could be loaded; the log says why\n")
        assert "Traceback" not in service.output


def test_where_the_log_goes_elsewhere_the_command_says_itself_why_no_engine_could_load():
    broken = {"ENGINE": "scripted", f"{LOAD}_FAILURE": "there is no folder ./no-such-folder"}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway"],
        env=os.environ | broken | {"PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr.endswith("llm-gateway: engine 'default': there is no folder ./no-such-folder\n")
    assert [line for line in ended.stdout.splitlines() if not line.startswith("{")] == []


def test_under_a_foreign_server_no_parent_is_told_and_no_signal_is_taken():
    code = "import os, signal, sys\n"
    code += "from gateway.app import serve\n"
    code += "import asyncio\n"
    code += "async def live():\n"
    code += "    app = serve()\n"
    code += "    async with app.lifespan():\n"
    code += "        await asyncio.sleep(1)\n"
    code += "    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)\n"
    code += "asyncio.run(live())\n"
    told = []
    before = signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"ENGINE": "scripted", f"{LOAD}_FAILURE": "it is broken"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended.stdout.splitlines()[-1] == "True"
    assert "it is broken" in ended.stdout
    assert told == []
