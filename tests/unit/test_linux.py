"""The kernel's files in both versions, as they are in a container; the ends of parents, and whose a socket is."""

import os
import socket
import subprocess
import sys
import time

import pytest

from gateway.linux import Lifeline, cpu_seconds, oom_kills, peer_is_this_user, resident_bytes, used_share
from tests.support.processes import descendants, is_alive


def write(root, **files):
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return root


V1 = {
    "memory__memory_dot_stat": "cache 5\ntotal_inactive_file 100\n",
    "memory__memory_dot_oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
}


def test_version_2_is_read(tmp_path):
    root = write(
        tmp_path,
        memory_dot_max="1000\n",
        memory_dot_current="900\n",
        memory_dot_stat="anon 1\ninactive_file 150\n",
        memory_dot_events="low 0\noom 1\noom_kill 2\n",
    )
    assert used_share(root) == 0.75
    assert oom_kills(root) == 2


def test_version_1_is_read(tmp_path):
    root = write(tmp_path, memory__memory_dot_limit_in_bytes="1000\n", memory__memory_dot_usage_in_bytes="600\n", **V1)
    assert used_share(root) == 0.5
    assert oom_kills(root) == 3


@pytest.mark.parametrize(
    "files", [{"memory_dot_max": "max\n"}, {"memory__memory_dot_limit_in_bytes": "9223372036854771712\n"}, {}]
)
def test_without_a_limit_there_is_no_share(tmp_path, files):
    assert used_share(write(tmp_path, **files)) is None
    assert oom_kills(tmp_path) == 0


def test_nonsense_is_no_limit(tmp_path):
    assert used_share(write(tmp_path, memory_dot_max="x")) is None


CHILD = "import os, sys, time; from gateway.linux import die_with_parent as die; die(int(sys.argv[1])); "
LIVE = "print(flush=True); time.sleep(60)"
PARENT = f"""import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD + LIVE!r}, str(os.getpid())])
time.sleep(60)
"""


def test_a_child_dies_with_its_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"\n"
        parent.kill()
        assert parent.stdout.read() == b""  # the child held the other end


def test_a_child_whose_parent_has_died_already_ends_at_once():
    child = subprocess.run([sys.executable, "-c", CHILD + LIVE, str(os.getpid() + 1)], check=False)
    assert child.returncode == 1


TIED = """import os, subprocess, sys, threading, time
from gateway.linux import Lifeline
lifeline = Lifeline()
inner = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
inner += "print(flush=True); time.sleep(60)"
leader = subprocess.Popen([sys.executable, "-c", inner], pass_fds=[lifeline.descriptor], start_new_session=True)
lifeline.tie(leader.pid)
threading.Thread(target=time.sleep, args=(60,)).start()
if sys.stdin.readline() == "cut\\n":
    lifeline.cut()
    lifeline.cut()
    leader.wait()
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["kill", "cut"])
def test_a_group_ends_with_the_process_that_it_is_tied_to(end):
    """Its leader's own child too, which knows nothing of any of them."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", TIED], **pipes) as tied:
        assert tied.stdout.readline() == b"\n"
        if end == "cut":
            tied.stdin.write(b"cut\n")
            tied.stdin.flush()
            pids = descendants(tied.pid)
            while any(map(is_alive, pids)):
                time.sleep(0.01)
        tied.kill()
        assert tied.stdout.read() == b""  # all of the group held the other end


def test_a_group_that_has_ended_is_tied_to_nothing():
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as over:
        over.wait()
    lifeline = Lifeline()
    lifeline.tie(over.pid)
    lifeline.cut()


def test_a_peer_of_another_user_is_told_apart(monkeypatch):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_is_this_user(ours)
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
        assert not peer_is_this_user(ours)


def test_the_memory_of_a_process_is_read(tmp_path):
    root = write(tmp_path, **{"7__status": "Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\n"})
    assert resident_bytes(7, root) == 812 * 1024
    assert resident_bytes(8, root) is None


def test_the_time_of_a_process_is_read_whatever_its_name(tmp_path):
    ticks = os.sysconf("SC_CLK_TCK")
    times = f"{2 * ticks} {ticks} {4 * ticks} {ticks}"
    root = write(tmp_path, **{"7__stat": f"7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 {times} 20 0 9 0 500\n"})
    assert cpu_seconds(7, root) == 8.0
    assert cpu_seconds(8, root) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_process_has_memory_and_has_taken_time():
    assert resident_bytes(os.getpid()) > 2**20
    used = time.process_time()
    assert 0 < cpu_seconds(os.getpid()) <= round(sum(os.times()[:4]), 2)  # four numbers of hundredths
    while time.process_time() < used + 0.05:
        pass
    assert cpu_seconds(os.getpid()) >= used
