import subprocess
import sys

import pytest

from gateway.config import Config, EngineSettings, ServerSettings
from tests.support.in_process import ask, running


@pytest.mark.parametrize(("seconds", "joins"), [(0.0, False), (1.0, True)])
async def test_frames_of_a_stream_share_writes_as_the_settings_say(seconds, joins):
    config = Config(
        engines={"default": EngineSettings(plugin="echo")},
        server=ServerSettings(join_seconds=seconds),
    )
    writes = []
    async with running(config) as app:
        body = {"prompt": "word " * 100, "max_tokens": 100, "stream": True}
        status, answer = await ask(app, "/v1/completions", body, writes=writes)
    frames = answer.count(b"\n\n")
    assert (status, frames > 100) == (200, True)
    assert len([write for write in writes if write]) == (frames if not joins else 4 + -(-(frames - 4) // 64))


def test_the_application_imports_no_libraries_that_litestar_would_only_be_ready_for():
    program = (
        "import sys\n"
        "from gateway.app import create_app\n"
        "from gateway.config import Config, EngineSettings\n"
        "create_app(Config(engines={'default': EngineSettings(plugin='echo')}))\n"
        "assert not {'attr', 'pydantic', 'redis'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
