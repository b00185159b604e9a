"""The Ray cluster and the application on it. All here blocks, and is called from one thread, which starts the cluster.

Ray has the processes of a cluster that it starts die with the thread that started it.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview, LoggingConfig

from gateway.engine import LoadFailed, encode, loading_step
from gateway_ray.replica import EngineReplica, ReplicaLaunch
from gateway_ray.settings import Autoscale, Settings

_log = logging.getLogger(__name__)

_APP = "llm-gateway"
_DEPLOYMENT = "engine"
_MIB, _GIB = 2**20, 2**30
_POLL = 0.25
_HEALTH_SECONDS = 5.0
# A replica that cannot load is tried again so often, on whatever node.
_TRIES = 3
_REASON = re.compile(r"(?:LoadFailed|Unavailable|PluginError|ValidationError): ([^\n]+)")


class RayCluster:
    """A cluster that this process is joined to, or has started, and the application on it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.app = settings.app or _APP
        self.digest = hashlib.blake2b(encode((version("llm-gateway"), settings)), digest_size=16).hexdigest()
        self._is_ours = False
        self._handle: DeploymentHandle | None = None

    def join(self) -> None:
        """Join the cluster, or start one; a process that has joined one stays there. Raises `LoadFailed`."""
        settings, ends = self._settings, time.monotonic() + self._settings.connect_seconds
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
            if settings.address:
                options["address"] = settings.address
            else:
                store = settings.object_store_mib * _MIB
                options |= {"address": "local", "include_dashboard": False, "object_store_memory": store}
            where = f"the Ray cluster at {settings.address}" if settings.address else "a Ray cluster of this machine"
            with loading_step(_log, f"joining {where}" if settings.address else f"starting {where}"):
                _try_until(ends, lambda: ray.init(**options), f"{where} cannot be joined")
            self._is_ours = True
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        # Where it runs already, it stays as it is; of gateways that start it at the same moment all but one fail.
        _try_until(ends, lambda: serve.start(proxy_location="Disabled"), "Ray Serve cannot be started")

    def leave(self) -> None:
        """Leave the cluster; one that was started here ends. Delete the application, unless it is to be kept."""
        if not ray.is_initialized():
            return
        self._end_router()
        if self._settings.address and not self._settings.keep:
            serve.delete(self.app)
        if self._is_ours:
            ray.shutdown()
            self._is_ours = False

    def state(self) -> ApplicationStatusOverview | None:
        """Ask Ray Serve how the application is; None where there is none."""
        return serve.status().applications.get(self.app)

    def replicas(self, state: ApplicationStatusOverview | None) -> int:
        """Count the replicas that serve."""
        deployment = state.deployments.get(_DEPLOYMENT) if state is not None else None
        states = deployment.replica_states if deployment is not None else {}
        return sum(count for kind, count in states.items() if kind == "RUNNING")

    def handle(self) -> DeploymentHandle:
        """Return the handle to the replicas; it serves until the next one, or `leave`."""
        self._end_router()
        self._handle = serve.get_app_handle(self.app)
        return self._handle

    def settle(self, given_up: Callable[[], bool]) -> None:
        """Wait for a deployment that is under way, for a while: another gateway may begin the same one."""
        ends = time.monotonic() + self._settings.connect_seconds
        while not given_up() and time.monotonic() < ends:
            state = self.state()
            if state is None or state.status != "DEPLOYING":
                return
            time.sleep(_POLL)

    def deploy(self, given_up: Callable[[], bool]) -> None:
        """Have Ray Serve run the application, replica after replica where it runs with other settings; wait for it.

        Raises `LoadFailed` where a replica cannot load.
        """
        target = serve.RunTarget(
            target=self._application(),
            name=self.app,
            route_prefix=None,
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
        )
        with loading_step(_log, f"deploying {self._settings.engine.plugin} as {self.app}"):
            serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
            while not given_up():
                state = self.state()
                if state is not None and state.status == "RUNNING":
                    return
                if state is not None and state.status == "DEPLOY_FAILED":
                    raise LoadFailed(_reason(state))
                time.sleep(_POLL)
        raise LoadFailed("the engine was left while it loaded")

    def _end_router(self) -> None:
        """End what the handle does by itself: of scaled replicas it reports, and would start a cluster to do so."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.shutdown()

    def _application(self) -> serve.Application:
        settings, resources = self._settings, self._settings.resources
        actor: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
        if resources.memory_gib:
            actor["memory"] = resources.memory_gib * _GIB
        if resources.custom:
            actor["resources"] = resources.custom
        if settings.labels:
            actor["label_selector"] = settings.labels
        options: dict[str, Any] = _scale(settings.replicas)
        if settings.per_node:
            options["max_replicas_per_node"] = settings.per_node
        launch = ReplicaLaunch(engine=settings.engine, digest=self.digest, hang_seconds=settings.hang_seconds)
        deployed: Any = serve.deployment(
            EngineReplica,
            name=_DEPLOYMENT,
            ray_actor_options=actor,
            max_ongoing_requests=settings.ongoing,
            max_surge_percent=settings.surge,
            graceful_shutdown_timeout_s=settings.drain_seconds,
            health_check_period_s=_HEALTH_SECONDS,
            max_constructor_retry_count=_TRIES,
            request_router_config={"request_router_class": "gateway_ray.router.AffinityRouter"},
            **options,
        )
        return deployed.bind(encode(launch))


def _scale(replicas: int | Autoscale) -> dict[str, Any]:
    if not isinstance(replicas, Autoscale):
        return {"num_replicas": replicas}
    between = {"min_replicas": replicas.min, "max_replicas": replicas.max, "target_ongoing_requests": replicas.ongoing}
    delays = {"upscale_delay_s": replicas.up_seconds, "downscale_delay_s": replicas.down_seconds}
    return {"autoscaling_config": between | delays}


def most(replicas: int | Autoscale) -> int:
    """Return how many replicas there may be."""
    return replicas.max if isinstance(replicas, Autoscale) else replicas


def _try_until(ends: float, attempt: Callable[[], object], failure: str) -> None:
    """Attempt it until it works; raise `LoadFailed` where it never did before `ends`."""
    while True:
        try:
            attempt()
        except (OSError, RuntimeError, ValueError, AssertionError, RayError) as error:  # as Ray has it
            if time.monotonic() >= ends:
                reason = str(error).strip().splitlines() or [type(error).__name__]
                raise LoadFailed(f"{failure}: {reason[0]}") from error
            time.sleep(_POLL)
        else:
            return


def _reason(state: ApplicationStatusOverview) -> str:
    """Find the engine's own words in what Ray Serve tells, which is many lines."""
    told = "\n".join([state.message, *(deployment.message for deployment in state.deployments.values())])
    found = _REASON.findall(told)
    return found[-1] if found else f"Ray Serve cannot run the engine: {told.strip().splitlines()[-1]}"
