"""The policy of Ray Serve's request router: which of the replicas that it knows gets a request."""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from gateway_ray import affinity as by_affinity  # by its name: Ray pickles this module by value, and what it holds


class AffinityRouter(RequestRouter):  # type: ignore[misc] # Ray is not there where types are checked
    """Prefers the replica that read a prompt's beginning before, else the one with the fewest requests.

    An answer counts from when its request is given to a replica until the engine, in this process, is done with it.
    Ray Serve's own count lags behind, in both directions: all it does is to refuse, where a replica has too much.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Pick one replica; where it refuses, Ray Serve waits and asks again, with what it learned."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        number, affinity, places, _ = pending_request.args[0]
        by_name = {replica.replica_id.to_full_id_str(): replica for replica in candidate_replicas}
        loads = by_affinity.LEDGER.loads(by_name)
        name = by_affinity.pick(affinity or pending_request.metadata.internal_request_id.encode(), loads, places)
        by_affinity.LEDGER.give(number, name)
        return [[by_name[name]]]
