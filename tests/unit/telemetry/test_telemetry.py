import os
import subprocess
import sys
import time

import pytest
from loguru import logger

from gateway.config import TelemetrySettings
from gateway.engine import Delta, Finished, FinishReason, Started, Usage
from gateway.telemetry import Telemetry
from tests.support.otlp import otlp_receiver

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_sees_the_request_its_generation_and_the_phases(standard_logging, request_, card, protocol):
    with otlp_receiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        telemetry = Telemetry.start(TelemetrySettings(otlp_endpoint=endpoint, otlp_protocol=protocol))

        async def app(scope, receive, send):
            scope["path_template"] = "/v1/generate"
            with telemetry.generation(request_, card, "hf") as generation:
                generation.see(Started(5, queue_seconds=1e-6, prefill_seconds=1e-6))
                generation.see(Delta("hi"))
                generation.see(Finished(FinishReason.LENGTH, Usage(5, 1)))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def nothing(*_):
            """Neither receive nor send matters here."""

        scope = {"type": "http", "method": "POST", "path": "/v1/generate", "scheme": "http", "server": None}
        await telemetry.middleware(app)({**scope, "headers": [(b"traceparent", PARENT)]}, nothing, nothing)
        await telemetry.stop()
        receiver.wait_for(5)
    (root,) = receiver.roots()
    assert root.outline() == "POST /v1/generate\n  text_completion tiny\n    queue\n    prefill\n    decode"
    assert root.span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert root.children[0].attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert "CANARY" not in str(receiver.spans)


async def test_stopping_writes_what_was_logged(capfd, standard_logging):
    telemetry = Telemetry.start(TelemetrySettings(log_format="json"))
    logger.info("last words")
    await telemetry.stop()
    assert "last words" in capfd.readouterr().out


async def test_stopping_is_short_though_nobody_reads_the_log(log, request_):
    read_end, write_end = os.pipe()
    telemetry = Telemetry(TelemetrySettings(), log.configure(), None)
    telemetry._log._lines._fd = write_end
    for _ in range(2000):
        logger.info("x" * 100)
    begun = time.monotonic()
    await telemetry.stop()
    assert time.monotonic() - begun < 4
    os.close(read_end)
    telemetry._log._lines._thread.join(0.1)
    logger.remove()
    os.close(write_end)


def test_a_process_ends_in_time_and_cleanly_though_collector_and_log_are_stuck():
    read_end, write_end = os.pipe()
    program = (
        "import asyncio\n"
        "from loguru import logger\n"
        "from gateway.config import TelemetrySettings\n"
        "from gateway.telemetry import Telemetry\n"
        "from gateway.telemetry.tracing import remote_parent\n"
        "async def main():\n"
        "    telemetry = Telemetry.start(TelemetrySettings(otlp_endpoint='http://127.0.0.1:9', log_format='json'))\n"
        "    for _ in range(3000):\n"
        "        telemetry.tracing.serve('GET', remote_parent([])).end()\n"
        "        logger.info('x' * 100)\n"
        "    await telemetry.stop()\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=write_end, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(read_end)
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_without_an_endpoint_no_exporter_is_imported():
    program = (
        "import sys\n"
        "from gateway.config import TelemetrySettings\n"
        "from gateway.telemetry import Telemetry\n"
        "Telemetry.start(TelemetrySettings())\n"
        "assert not {'grpc', 'requests', 'torch', 'gateway.app', 'gateway.api'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
