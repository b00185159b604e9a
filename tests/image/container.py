"""Run an image's folder as a container would be: without rights, without a network, its file system read-only.

Called in namespaces of its own, so that all mounts and processes go with it.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.image.stage import Stage, words

PATIENCE = 900.0
NO_KEY = 2  # the exit code


class Container:
    """The folder of a stage with its volumes, in this namespace.

    A new volume is as a container engine makes it, or as a kubelet does: empty, and the group's of the pod.
    """

    def __init__(self, stage: Stage, volumes: Path, *, is_pod: bool) -> None:
        self._stage = stage
        self._port = int(stage.variables["PORT"])
        root = stage.root
        self._call("ip", "link", "set", "lo", "up")
        self._call("mount", "--bind", root, root)
        for number, target in enumerate(stage.said["VOLUME"].split()):
            there, volume = root / target.lstrip("/"), volumes / str(number)
            if is_pod:
                volume.mkdir()
                os.chown(volume, 0, int(stage.user.partition(":")[2]))
                volume.chmod(0o2777)
            else:
                self._call("cp", "-a", there, volume)
            self._call("mount", "--bind", volume, there)
        self._call("mount", "-o", "remount,bind,ro", root)
        self._call("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "tmp")
        self._call("mount", "-t", "proc", "proc", root / "proc")
        self._call("mount", "--rbind", "/dev", root / "dev")

    @staticmethod
    def _call(*command: str | Path) -> None:
        subprocess.run(command, check=True)

    def command(self, *arguments: str) -> list[str]:
        """Write a command as the image's user would run it, who gains no rights."""
        uid, gid = self._stage.user.split(":")
        drop = [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        ]
        return ["chroot", str(self._stage.root), *drop, *arguments]

    def start(self, *arguments: str, **given: Any) -> "subprocess.Popen[str]":
        """Start a command in it, with the image's variables only."""
        return subprocess.Popen(self.command(*arguments), env=self._stage.variables, text=True, **given)

    def output(self, *arguments: str) -> str:
        """Run a command in it to its end, and return what it printed."""
        process = self.start(*arguments, stdout=subprocess.PIPE)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0, arguments
        return printed.strip()

    def is_healthy(self) -> bool:
        """Run the image's own health check."""
        return self.start(*words(self._stage.said["HEALTHCHECK"]), stderr=subprocess.DEVNULL).wait(30) == 0

    def ask(self, path: str, key: str = "", body: Any = None) -> tuple[int, str]:
        """Send a request; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        head = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, head)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def serve(container: Container, stage: Stage, key: str) -> dict[str, int]:
    """Start the entry point, wait for its health check, ask a model, stop it; fail where a step does.

    Return what lies in the cache, with the times of its files.
    """
    began = time.monotonic()
    process = container.start(*words(stage.said["ENTRYPOINT"]))
    try:
        while not container.is_healthy():
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() - began < PATIENCE, "it does not become healthy"
            time.sleep(1)
        print(f"healthy after {time.monotonic() - began:.0f} s; /readyz: {container.ask('/readyz')}")
        assert container.ask("/v1/models")[0] == http.client.UNAUTHORIZED
        asked = {"prompt": "The capital of France is", "max_new_tokens": 8, "temperature": 0}
        status, text = container.ask("/v1/generate", key, asked)
        assert status == http.client.OK, text
        print(f"/v1/generate: {text}")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0, f"SIGTERM: it ended with {code}"
    print("SIGTERM: it ended with 0", flush=True)
    cached = [path for path in (stage.root / "var/cache/llm-gateway").rglob("*") if path.is_file()]
    return {str(path): path.stat().st_mtime_ns for path in cached if path.suffix in {".so", ".safetensors"}}


def rehearse(stage: Stage, volumes: Path) -> None:
    """Serve from the volumes of a container engine, then from those of a pod, there twice."""
    entry = words(stage.said["ENTRYPOINT"])
    for is_pod in (False, True):
        print(f"--- as a {'pod' if is_pod else 'container'}", flush=True)
        shutil.rmtree(volumes, ignore_errors=True)
        volumes.mkdir()
        container = Container(stage, volumes, is_pod=is_pod)
        refused = container.start(*entry, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = refused.communicate(timeout=120)
        assert refused.returncode == NO_KEY, said
        print(f"without a key it says: {said.strip()}")
        key = container.output(*entry, "keys", "create", "me").splitlines()[-1]
        made = serve(container, stage, key)
        assert any(name.endswith(".so") for name in made), "no kernels were built"
    assert serve(container, stage, key) == made, "it made anew what was there"
    print(f"used again: {sorted(Path(name).name for name in made)}")


def main() -> None:
    """Rehearse what the file describes, whose path is the argument."""
    described = json.loads(Path(sys.argv[1]).read_text())
    os.umask(0o022)
    rehearse(Stage(**described["stage"] | {"root": Path(described["stage"]["root"])}), Path(described["volumes"]))


if __name__ == "__main__":
    main()
