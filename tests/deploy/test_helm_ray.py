"""The container of the chart joins a real Ray cluster by its own command, and a replica there answers."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import helm

ALONE = ["unshare", "--net", "--pid", "--mount-proc", "--ipc", "--fork", "--kill-child"]

pytestmark = [
    pytest.mark.slow,  # a cluster takes half a minute
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: uv sync --extra ray"),
    pytest.mark.skipif(helm.PROGRAM is None, reason="no helm; `just helm` builds it from its Go module"),
]


def test_the_pod_joins_the_cluster_and_a_replica_there_answers(tmp_path):
    if os.geteuid() != 0 or subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces of networks and mounts are not permitted here")
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "tests.image.ray_pod", tmp_path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["text"], told["code"]) == ("a b ca b c", 0)
    assert told["nodes"].count("1 node_") == 2
    assert "1.0/1.0 CPU" in told["nodes"]  # the gateway's node brings none
