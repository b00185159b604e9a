"""What Ray Serve is told of an application."""

import pytest

pytest.importorskip("ray", reason="Ray is not installed: uv sync --extra ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own libraries

from gateway_ray.settings import Autoscale, InnerEngine, Resources, Settings  # noqa: E402 - only where Ray is there


def deployed(**settings):
    from gateway_ray.cluster import RayCluster  # noqa: PLC0415 - imports Ray

    told = Settings(engine=InnerEngine(plugin="echo"), **settings)
    return RayCluster(told)._application()._bound_deployment


def test_bounds_and_delays_of_replicas_are_rays():
    scaled = Autoscale(min=1, max=4, ongoing=3, up_seconds=5, down_seconds=6)
    found = deployed(replicas=scaled)._deployment_config.autoscaling_config
    assert (found.min_replicas, found.max_replicas, found.target_ongoing_requests) == (1, 4, 3)
    assert (found.upscale_delay_s, found.downscale_delay_s) == (5, 6)
    assert deployed(replicas=3)._deployment_config.num_replicas == 3


def test_resources_are_those_of_each_replica():
    resources = Resources(cpus=2, gpus=1, memory_gib=3, custom={"fast_disk": 1})
    told = deployed(resources=resources, labels={"zone": "a"}).ray_actor_options
    assert told == {
        "num_cpus": 2,
        "num_gpus": 1,
        "memory": 3 * 2**30,
        "resources": {"fast_disk": 1},
        "label_selector": {"zone": "a"},
    }
