"""What is added up of replicas that come and go."""

import pytest

pytest.importorskip("ray", reason="Ray is not installed: uv sync --extra ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own libraries

from gateway.engine import Health, Status  # noqa: E402 - only where Ray is there


def growth():
    from gateway_ray.watch import Growth  # noqa: PLC0415 - imports Ray

    return Growth()


class Cluster:
    """Says how many replicas there are."""

    count = 2

    def replicas(self, _):
        return self.count


def status(preemptions):
    return Status(health=Health.READY, cache_used=5, preemptions=preemptions)


def test_the_preemptions_of_a_replica_that_goes_stay_in_the_sum():
    from gateway_ray.watch import ClusterWatch  # noqa: PLC0415 - imports Ray

    watch = ClusterWatch(Cluster())
    assert watch.status.preemptions is None
    for replica, count in (("a", 3), ("b", 4), ("a", 5)):
        watch.hear(replica, status(count))
    assert watch.status.preemptions == 9
    Cluster.count = 1
    watch._see(None)
    assert (watch.status.preemptions, watch.status.cache_used) == (9, 5)
    watch.hear("c", status(1))
    watch.hear("b", status(4))
    assert watch.status.preemptions == 10


def test_a_count_that_begins_anew_is_added():
    counted = growth()
    for count in (4, None, 1, 3):
        counted.see("a", count)
    assert counted.total == 7


def test_only_so_many_replicas_are_remembered():
    counted = growth()
    for number in range(3_000):
        counted.see(str(number), 1)
    assert (counted.total, len(counted._last)) == (3_000, 1_000)
