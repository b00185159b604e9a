"""How the engine is: the application's state on the cluster, and what of this gateway's answers runs and waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from gateway.engine import Health, Status
from gateway_ray.cluster import RayCluster

_POLL = 2.0
# A cluster that does not say how it is for so long is gone for now.
_SILENCE = 10.0
# Replicas whose last counts are remembered, also of those that are gone.
_REMEMBERED = 1_000

AppState: TypeAlias = "ApplicationStatusOverview | None"
RunOnThread: TypeAlias = "Callable[[Callable[[], AppState]], Awaitable[AppState]]"


class AnswerCount:
    """One answer: it waits, and runs once it has started."""

    def __init__(self) -> None:
        self.has_started = False


class Growth:
    """The sum of counts that each of several replicas tells; it does not fall when one of them goes, or begins anew.

    `total` is `None` until one has told a count.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._last: dict[str, int] = {}

    def see(self, replica: str, count: int | None) -> None:
        """Add by how much the count of a replica grew."""
        if count is None:
            return
        last = self._last.pop(replica, 0)
        self.total = (self.total or 0) + (count - last if count >= last else count)
        self._last[replica] = count
        if len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]


class ClusterWatch:
    """Polls the application's state, and adds up what its replicas tell of themselves."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster = cluster
        self._answers: set[AnswerCount] = set()
        self._told: dict[str, Status] = {}
        self._preemptions = Growth()
        self._steps = 0
        self._health, self._detail = Health.READY, ""
        self._polls: asyncio.Task[None] | None = None

    @property
    def status(self) -> Status:
        """The state as of the last poll; `cache_used` is that of all replicas, as last told, `drift` the largest."""
        running = sum(answer.has_started for answer in self._answers)
        return Status(
            health=self._health,
            detail=self._detail,
            running=running,
            waiting=len(self._answers) - running,
            cache_used=sum(status.cache_used for status in self._told.values()),
            steps=self._steps,
            preemptions=self._preemptions.total,
            drift=max((told.drift for told in self._told.values() if told.drift is not None), default=None),
        )

    def begin(self, run: RunOnThread) -> None:
        """Poll, each time with `run`."""
        self._health, self._detail = Health.READY, ""
        self._polls = asyncio.create_task(self._poll(run))

    async def end(self) -> None:
        """Poll no more."""
        polls, self._polls = self._polls, None
        if polls is not None:
            polls.cancel()
            await asyncio.wait({polls})

    @contextmanager
    def counted(self) -> Iterator[AnswerCount]:
        """Count an answer as long as the block runs."""
        answer = AnswerCount()
        self._answers.add(answer)
        try:
            yield answer
        finally:
            self._answers.discard(answer)

    def hear(self, replica: str, status: Status | None) -> None:
        """Take what came from a replica."""
        self._steps += 1
        if status is not None:
            self._told.pop(replica, None)  # the last to speak stands last
            self._told[replica] = status
            self._preemptions.see(replica, status.preemptions)

    async def _poll(self, run: RunOnThread) -> None:
        while True:
            await asyncio.sleep(_POLL)
            try:
                async with asyncio.timeout(_SILENCE):
                    state = await run(self._cluster.state)
            except (TimeoutError, RayError, RayServeException) as error:
                self._health, self._detail = Health.STARTING, f"the cluster does not say how it is: {error}"
            else:
                self._see(state)

    def _see(self, state: AppState) -> None:
        """Take the application's state. It gets on while Ray Serve tells of it, also while a request waits for one."""
        count = self._cluster.replicas(state)
        self._steps += 1
        for silent in list(self._told)[: max(len(self._told) - count, 0)]:
            del self._told[silent]
        if state is None:
            self._health, self._detail = Health.FAILED, "the application is gone from the cluster"
        elif count:
            lame = state.status not in ("RUNNING", "DEPLOYING")
            self._health, self._detail = Health.READY, f"{count} replicas serve: {state.message}" if lame else ""
        else:
            self._health, self._detail = Health.STARTING, f"no replica serves: {state.status} {state.message}".rstrip()
