"""Memory runs out for real: the kernel ends the engine, and nothing else."""

import contextlib
import os
from pathlib import Path

import pytest

from tests.support.observe import eventually
from tests.support.package import install
from tests.support.processes import engines, worker
from tests.support.service import Service

ROOT = Path("/sys/fs/cgroup")
LIMIT = 400 * 2**20
PATIENCE = 30.0
GLUTTON = """
from gateway.engine import Plugin
from gateway.testing.scripted import ScriptedEngine, Settings


class Glutton(ScriptedEngine):
    async def generate(self, request):
        eaten = []
        while "eat" in request.prompt.text:
            eaten.append(b"x" * 2**24)
        async for event in super().generate(request):
            yield event


plugin = Plugin(Settings, Glutton, isolated=True)
"""


@pytest.fixture
def group():
    """A control group of bounded memory, and the folder where the service looks for its own."""
    parent, limit = (ROOT / "memory", "memory.limit_in_bytes")
    if not parent.is_dir():
        parent, limit = ROOT, "memory.max"
    made = parent / f"llm-gateway-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / limit).write_text(str(LIMIT))
        for swap in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
            if (made / swap).exists():
                (made / swap).write_text(str(LIMIT) if "memsw" in swap else "0")
    except OSError as error:
        with contextlib.suppress(OSError):
            made.rmdir()
        pytest.skip(f"no control group of memory can be made here: {error}")
    yield made, parent
    # The kernel lets it go once the last of its processes is.
    eventually(lambda: _removed(made), PATIENCE)


def _removed(group):
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_the_engine_alone_is_ended_and_the_reason_is_told(group, tmp_path):
    made, parent = group
    install(tmp_path, "glutton", GLUTTON, "llm_gateway.engines", {"glutton": "glutton:plugin"})
    # As in a container: the service is in the group, and the group is all that it sees.
    inside = f'echo $$ > {made}/cgroup.procs && mount --bind {made} {parent} && exec "$@"'
    before = ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", inside, "sh")
    environment = {"ENGINE": "glutton", "PYTHONPATH": str(tmp_path)}
    with Service(before=before, **environment) as service:
        main, [engine], serving = service.process.pid, engines(service.process.pid), worker(service.process.pid)
        answer = service.generate(prompt="eat")
        assert answer.status_code in (500, 503)
        assert answer.json()["error"]["code"] in ("engine_restarted", "request_quarantined")
        eventually(lambda: engines(main) not in ([], [engine]), PATIENCE)
        assert worker(main) == serving
        service.wait_for("/readyz")
        assert service.generate(prompt="a").json()["generated_text"].endswith("Once upon a time.")
        assert service.metric("llm_gateway_engine_restarts_total", reason="oom") >= 1
        assert service.metric("llm_gateway_engine_restarts_total", reason="exit") == 0
