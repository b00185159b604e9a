"""A Ray cluster of this machine, and engines on it."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
import psutil

from gateway.engine import Engine, load

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ADDRESS, APP = "auto", "tests"

# Ray reads them when it is imported. Under `uv run` its workers would wait for environments of their own.
os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}
STORE = 100 * 2**20
# Within these a node has registered, however busy the machine is.
START_SECONDS = 180.0


@contextmanager
def cluster(nodes: int = 0, cpus: int = 2):
    """Start a cluster of a head and so many other nodes, join it, and end both."""
    import ray  # noqa: PLC0415 - an extra, which the caller found
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    with _patience():
        started = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": cpus, "object_store_memory": STORE, "include_dashboard": False},
        )
    try:
        with _patience():
            for _ in range(nodes):
                started.add_node(num_cpus=cpus, object_store_memory=STORE)
        ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@contextmanager
def _patience() -> Iterator[None]:
    """Wait longer for a raylet than the 30 s that stand in `ray._private.node`, which no setting changes."""
    from ray._private import services  # noqa: PLC0415 - as above

    with mock.patch.object(services, "get_node", _until_known(services.get_node)):
        yield


def _until_known(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Ask again and again for a node that the cluster does not know yet; `RuntimeError` where it never does."""

    def asked(*arguments: object) -> object:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                return ask(*arguments)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    return asked


def kill_a_replica(started: "Cluster", app: str = APP) -> None:
    """Kill the process of one replica, as the kernel does where memory is short."""
    nodes = [started.head_node, *started.worker_nodes]
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes]
    children = [child for raylet in raylets for child in raylet.children(recursive=True)]
    name = f"ray::ServeReplica:{app}:"
    next(child for child in children if " ".join(child.cmdline()).startswith(name)).kill()


def hosted(
    plugin: str,
    *,
    replicas: object = 2,
    resources: object = None,
    app: str = APP,
    per_node: int = 0,
    **settings: object,
) -> Engine:
    """Make an engine that hosts another on the cluster that this process has joined; it stays there when left."""
    ray = load("ray")
    told = {
        "engine": {"plugin": plugin, "settings": settings},
        "replicas": replicas,
        "resources": resources or {"cpus": 0.5},
        "address": ADDRESS,
        "app": app,
        "per_node": per_node,
    }
    return ray.build(msgspec.convert(told, ray.settings))
