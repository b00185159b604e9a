"""What the gateways have behind them, and how a part of it is lost."""

import os
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import psutil
from msgspec import Struct

from tests.support.processes import engines
from tests.support.replicas import Replicas
from tests.support.service import Service

_ENGINE = "LLM_GATEWAY__ENGINES__DEFAULT__"
_APP = f"scale-{os.getpid()}"


class Backend(Struct, frozen=True):
    """The settings of each gateway for what is behind, and ways to lose a part of that, by their names.

    What is lost so comes back by itself: an engine is replaced, and so is a replica of Ray's.
    """

    environment: Mapping[str, str]
    losses: Mapping[str, Callable[[Replicas], None]]


@contextmanager
def echo() -> Generator[Backend, None, None]:
    """An echo of its own behind each gateway, in a process of its own."""
    settings = {"ISOLATED": "true", "SETTINGS__DELAY": "0.01", "SETTINGS__PLACES": "64"}
    environment = {"ENGINE": "echo"} | {_ENGINE + name: value for name, value in settings.items()}
    yield Backend(environment, {"an engine killed": lambda replicas: _kill_engine(replicas.services[0])})


@contextmanager
def hf() -> Generator[Backend, None, None]:
    """One service with the built-in model behind all gateways, which reach it by the engine `openai`."""
    with Service(ENGINE="hf", LOG_LEVEL="ERROR", ready=False) as upstream:
        upstream.wait_for("/readyz", seconds=180)
        environment = {"ENGINE": "openai", f"{_ENGINE}SETTINGS__BASE_URL": f"{upstream.url}/v1"}
        yield Backend(environment, {"the upstream's engine killed": lambda _: _kill_engine(upstream)})


@contextmanager
def ray() -> Generator[Backend, None, None]:
    """Echoes on a Ray cluster of three nodes of this machine, which all gateways share."""
    from tests.support.ray_cluster import cluster  # noqa: PLC0415 - Ray is an extra

    with cluster(nodes=2) as nodes:
        settings = {
            "ENGINE": '{"plugin": "echo", "settings": {"delay": 0.01, "places": 64}}',
            "REPLICAS": "3",
            "PER_NODE": "1",
            "RESOURCES": '{"cpus": 0.5}',
            "ADDRESS": nodes.address,
            "APP": _APP,
        }
        environment = {"ENGINE": "ray"} | {f"{_ENGINE}SETTINGS__{name}": value for name, value in settings.items()}
        others = list(nodes.worker_nodes)
        yield Backend(
            environment,
            {
                "a replica of Ray's killed": lambda _: _kill_replica(),
                "a node of Ray's killed": lambda _: nodes.remove_node(others[0], allow_graceful=False),
            },
        )


BACKENDS = {each.__name__: each for each in (echo, hf, ray)}


def _kill_engine(service: Service) -> None:
    os.kill(engines(service.process.pid)[0], signal.SIGKILL)


def _kill_replica() -> None:
    names = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
    os.kill(next(pid for pid, name in names.items() if name.startswith(f"ray::ServeReplica:{_APP}")), signal.SIGKILL)
