"""A Ray head and the chart's container, each with a `/tmp/ray` and shared memory of its own, as two pods have.

Called in a network of its own, with a folder for files.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support import helm

PATIENCE = 240.0
# The cluster of the example runs a model; here it runs an echo.
VALUES = (
    "kuberay",
    "ray.address=127.0.0.1:6379",
    "engines.default.settings.engine.plugin=echo",
    "engines.default.settings.engine.settings=null",
    "engines.default.settings.replicas=1",
    "engines.default.settings.resources.cpus=1",
)
_OWN = """mkdir -p /tmp/ray
for at in /tmp/ray /dev/shm; do mount -t tmpfs -o size=300m,mode=1777 own "$at"; done
exec "$@"
"""
_HEAD = "ray start --head --port=6379 --num-cpus=1 --num-gpus=0 --object-store-memory=100000000 --disable-usage-stats"


def pod(variables: dict[str, str], *command: str) -> "subprocess.Popen[bytes]":
    """Start a command that shares with the other pod the network only."""
    return subprocess.Popen(["unshare", "--mount", "sh", "-ec", _OWN, "sh", *command], env=variables)


def wait(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the gateway is ready."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError("the gateway on the cluster does not become ready")


def main() -> None:
    """Have a request answered by a replica in the cluster, and print the answer and the cluster's nodes."""
    folder = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    manifests = helm.render(*VALUES)
    variables = helm.variables(manifests, folder)
    variables |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    variables["XDG_CACHE_HOME"] = str(folder)
    head = pod(variables, *_HEAD.split(), "--include-dashboard=false", "--block")
    gateway = pod(variables, *helm.container(manifests)["command"])
    key = helm.secret(manifests)["first"]
    with httpx.Client(base_url="http://127.0.0.1:8000", headers={"x-api-key": key}, trust_env=False) as client:
        wait(client, gateway)
        told = client.post("/v1/generate", json={"prompt": "a b c"}, timeout=60).json()
    asked = ["ray", "status", "--address=127.0.0.1:6379"]
    nodes = subprocess.run(asked, env=variables, capture_output=True, check=True)
    gateway.send_signal(signal.SIGTERM)
    gateway.wait(90)
    head.kill()  # what is left of it ends with this namespace
    print(json.dumps({"text": told["generated_text"], "nodes": nodes.stdout.decode(), "code": gateway.returncode}))


if __name__ == "__main__":
    main()
