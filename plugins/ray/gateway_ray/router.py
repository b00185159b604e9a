"""The policy of Ray Serve's request router: which of the replicas that it knows gets a request."""

import time
from collections import Counter
from typing import Any
from weakref import ref

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from gateway_ray.affinity import pick

# Seconds after which a request that was given to a replica, and was neither taken nor refused, has been given up.
_LOST = 10.0


class AffinityRouter(RequestRouter):  # type: ignore[misc] # Ray is not there where types are checked
    """Prefers the replica that read a prompt's beginning before, else the one with the fewest requests.

    An answer counts from when its request is given to a replica: of many that come at once, each sees those before
    it. Ray Serve's own count lags behind, in both directions: all it does is to refuse, where a replica has too much.
    """

    def initialize_state(self, **kwargs: object) -> None:
        """Begin with no requests."""
        super().initialize_state(**kwargs)
        self._given: dict[tuple[str, ReplicaID], tuple[ref[PendingRequest], float]] = {}
        self._taken: set[tuple[str, ReplicaID]] = set()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Pick one replica; where it refuses, Ray Serve waits and asks again, with what it learned."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        affinity, places, _ = pending_request.args[0]
        request = pending_request.metadata.internal_request_id
        by_name = {replica.replica_id.to_full_id_str(): replica for replica in candidate_replicas}
        picked = by_name[pick(affinity or request.encode(), self._loads(candidate_replicas), places)]
        if affinity:  # a question takes no place
            self._given[request, picked.replica_id] = ref(pending_request), time.monotonic()
        return [[picked]]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:  # noqa: ANN401 - it is Ray's own
        """Count a request that a replica took, unless it is complete already."""
        super().on_request_routed(pending_request, replica_id, result)
        request = pending_request.metadata.internal_request_id, replica_id
        if self._given.pop(request, None) is not None:
            self._taken.add(request)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Count a request no more, however it ended."""
        super().on_request_completed(replica_id, internal_request_id)
        self._given.pop((internal_request_id, replica_id), None)
        self._taken.discard((internal_request_id, replica_id))

    def _loads(self, replicas: list[RunningReplica]) -> dict[str, int]:
        """Return the answers that each replica gives to this gateway, by its name."""
        late = time.monotonic() - _LOST
        gone = [key for key, (pending, since) in self._given.items() if pending() is None or since < late]
        for key in gone:  # Ray Serve does not say that a request was cancelled on its way
            del self._given[key]
        own = Counter(replica for _, replica in [*self._given, *self._taken])
        return {replica.replica_id.to_full_id_str(): own[replica.replica_id] for replica in replicas}
