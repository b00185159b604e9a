"""An engine that reaches for what it does not need: the network, ten thousand descriptors, other users' rights."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.isolation.confinement import DESCRIPTORS
from tests.support.observe import eventually
from tests.support.package import install
from tests.support.processes import engines
from tests.support.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an engine is confined on Linux only")

# Another user's program, whose set-user-ID bit would make that user of whoever runs it.
OTHER = 12_345
NAMES = ("default", "remote", "given")
PATIENCE = 60.0
CURIOUS = """
import ctypes, json, os, resource, socket, subprocess, threading
from pathlib import Path

from gateway.engine import Plugin
from gateway.testing.script import Script
from gateway.testing.scripted import ScriptedEngine, Settings as Scripted


class Settings(Scripted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: int
    folder: str


def outcome(try_it):
    try:
        return try_it() or "done"
    except OSError as error:
        return error.strerror


def in_a_thread(try_it):
    found = []
    thread = threading.Thread(target=lambda: found.append(outcome(try_it)))
    thread.start()
    thread.join()
    return found[0]


def in_a_child(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True).stdout.strip()


def reach(settings):
    connect = lambda: socket.create_connection(("127.0.0.1", settings.port), 5).close()
    def open_many():
        opened = []
        try:
            for _ in range(10_000):
                opened.append(open("/dev/null"))
        except OSError as error:
            return f"{error.strerror} after {len(opened)}"
    def compile_and_load():
        source = Path(settings.folder, f"seven-{os.getpid()}.c")
        library = source.with_suffix(".so")
        source.write_text("int seven() { return 7; }")
        subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library)).seven()
    return {
        "connect": outcome(connect),
        "listen": outcome(lambda: socket.create_server(("127.0.0.1", 0)).close()),
        "thread": in_a_thread(connect),
        "datagram": outcome(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()),
        "unix": outcome(lambda: [end.close() for end in socket.socketpair()] and None),
        "ring": ctypes.CDLL(None).syscall(425, 8, 0),
        "many": outcome(open_many),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "user": in_a_child(str(Path(settings.folder, "id")), "-u"),
        "compiled": compile_and_load(),
    }


def build(settings):
    text = json.dumps(reach(settings))
    return ScriptedEngine(Scripted(model=settings.model, script=Script(texts=(text,))))


plugin = Plugin(Settings, build, isolated=True)
online = Plugin(Settings, build, isolated=True, needs_network=lambda _: True)
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What each of three engines could do: one that needs no network, one that does, one that was given it."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    folder = tmp_path_factory.mktemp("curious")
    folder.chmod(0o755)
    points = {"curious": "curious:plugin", "online": "curious:online"}
    install(folder, "curious", CURIOUS, "llm_gateway.engines", points)
    _lend(folder / "id")
    with socket.create_server(("127.0.0.1", 0)) as neighbour:
        settings = {"PORT": str(neighbour.getsockname()[1]), "FOLDER": str(folder)}
        environment = {"ENGINE": "curious"}
        for name, plugin in {"default": "curious", "remote": "online", "given": "curious"}.items():
            start = f"LLM_GATEWAY__ENGINES__{name.upper()}__"
            environment |= {f"{start}PLUGIN": plugin, f"{start}SETTINGS__MODEL": name}
            environment |= {f"{start}SETTINGS__{key}": value for key, value in settings.items()}
        environment["LLM_GATEWAY__ENGINES__GIVEN__NETWORK"] = "true"
        with Service(PYTHONPATH=str(folder), **environment) as service:
            found = {name: eventually(lambda name=name: _report(service, name), PATIENCE) for name in NAMES}
            found["status"] = [Path(f"/proc/{pid}/status").read_text() for pid in engines(service.process.pid)]
            found["log"] = service.output
    return found


def _report(service: Service, name: str) -> dict | None:
    """Read what an engine tells of itself; `None` while it loads: the service is ready when the first one is."""
    answer = service.generate(prompt="what could you do?", model=name, return_full_text=False)
    return json.loads(answer.json()["generated_text"]) if answer.status_code == 200 else None


def _lend(program: Path) -> None:
    """Copy `id`, and let it run as another user, as far as this one may."""
    shutil.copy(shutil.which("id"), program)
    if os.geteuid() == 0:
        os.chown(program, OTHER, OTHER)
    program.chmod(stat.S_ISUID | 0o755)


def test_an_engine_that_needs_no_network_reaches_none(reports):
    refused = {reports["default"][attempt] for attempt in ("connect", "listen", "thread", "datagram")}
    assert refused == {"Operation not permitted"}
    assert reports["default"]["ring"] == -1
    assert reports["default"]["unix"] == "done"


@pytest.mark.parametrize("name", ["remote", "given"])
def test_an_engine_that_says_so_or_is_given_it_has_the_network(reports, name):
    assert {reports[name][attempt] for attempt in ("connect", "listen", "thread")} == {"done"}


@pytest.mark.parametrize("name", ["default", "remote"])
def test_an_engine_has_so_many_descriptors_and_no_more(reports, name):
    what, _, opened = reports[name]["many"].partition(" after ")
    assert what == "Too many open files"
    assert int(opened) < DESCRIPTORS


def test_an_engine_gains_no_rights_and_leaves_no_core(reports):
    assert len(reports["status"]) == 3
    assert all("NoNewPrivs:\t1\n" in status for status in reports["status"])
    assert reports["default"]["core"] == [0, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program of another user's")
def test_a_program_of_another_user_runs_as_this_one(reports):
    program = subprocess.run([shutil.which("id"), "-u"], capture_output=True, text=True, check=True)
    assert reports["default"]["user"] == program.stdout.strip()


def test_a_confined_engine_still_compiles_and_loads_what_it_compiled(reports):
    assert reports["default"]["compiled"] == 7


def test_nothing_is_said_where_nothing_is_missing(reports):
    assert "confined" not in reports["log"]
