"""The wall clock jumps a day ahead and a day back: nothing that waits, limits or watches notices."""

import json
import mmap
import shutil
import struct
import subprocess
import sys
import time
from datetime import datetime, timedelta

import pytest

from gateway.auth import KeyFile
from gateway.limits import Quota
from tests.support.observe import eventually, play
from tests.support.processes import engines
from tests.support.rawhttp import JSON, RawHTTP, request
from tests.support.service import Service

pytestmark = pytest.mark.slow

DAY = 86_400
PATIENCE = 20.0
# Every call of the C library that tells the wall clock, for every process of the service; a shared file has the shift.
CLOCK = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(FILE_OF_THE_SHIFT, O_RDONLY);
    shift = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    int failed = syscall(SYS_clock_gettime, clock, told);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) told->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *told, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """A wall clock for a service, which can be set while it runs."""

    def __init__(self, folder):
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("the clock is set through a library that a C compiler makes, on Linux")
        self._file = folder / "shift"
        self._file.write_bytes(struct.pack("q", 0))
        self.library = folder / "clock.so"
        command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(self.library)]
        subprocess.run([*command, f'-DFILE_OF_THE_SHIFT="{self._file}"'], input=CLOCK.encode(), check=True)

    def jump(self, seconds):
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shift:
            shift[:8] = struct.pack("q", seconds)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


@pytest.fixture
def service(clock, tmp_path):
    """A service with an engine in a process of its own that may be silent for a second, and keys."""
    keys = KeyFile(tmp_path / "keys.db")
    _, key = keys.create("caller")
    _, limited = keys.create("limited", quota=Quota(requests_per_minute=2))
    engine = {"ENGINE": "scripted", "LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true", "LOG_LEVEL": "DEBUG"}
    engine |= {"LLM_GATEWAY__ENGINES__DEFAULT__HANG_SECONDS": "1", "LLM_GATEWAY__AUTH__FILE": str(keys.path)}
    with Service(LD_PRELOAD=str(clock.library), **engine) as running:
        running.client.headers["authorization"] = f"Bearer {key}"
        running.key, running.limited = key, {"authorization": f"Bearer {limited}"}
        yield running


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "back"])
def test_streams_deadlines_limits_and_watchdogs_go_by_another_clock(service, clock, jump):
    body = {"prompt": play(texts=["tick "], delay=0.02), "ignore_eos": True, "max_new_tokens": 200, "stream": True}
    content = json.dumps(body).encode()
    bearer = f"Authorization: Bearer {service.key}"
    before = engines(service.process.pid)
    spend = {"prompt": play(texts=["a"])}
    statuses = [service.client.post("/v1/generate", json=spend, headers=service.limited).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    with RawHTTP(service.port) as stream:
        head = request("POST", "/v1/generate", JSON, bearer, "X-Request-Timeout: 15", f"Content-Length: {len(content)}")
        stream.send(head, content).read_until(b"tick")
        clock.jump(jump)
        # A minute has not passed, whatever the wall says.
        assert service.client.post("/v1/generate", json=spend, headers=service.limited).status_code == 429
        timed = {"X-Request-Timeout": "5"}
        answer = service.client.post("/v1/generate", json={"prompt": play(texts=["right"], delay=0.5)}, headers=timed)
        assert answer.json()["generated_text"].endswith("right")
        rest = stream.read_until(b"[DONE]")
    assert b'"error"' not in rest
    assert b'"deadline"' not in rest
    time.sleep(2.5)  # longer than an engine may be silent
    assert engines(service.process.pid) == before
    assert service.client.get("/readyz").status_code == 200
    # The clock of the log did jump, else this test would show nothing.
    begun, told = (datetime.fromisoformat(line["time"]) for line in (service.lines[0], service.lines[-1]))
    assert abs(told - begun) > timedelta(hours=23)


def test_a_deadline_is_kept_through_a_jump(service, clock):
    clock.jump(-DAY)
    script = {"prompt": play(prefill=30.0)}
    began = time.monotonic()
    answer = service.client.post("/v1/generate", json=script, headers={"X-Request-Timeout": "1"})
    assert answer.status_code == 504
    assert time.monotonic() - began < PATIENCE
    assert eventually(lambda: service.client.get("/readyz").status_code == 200, PATIENCE)
