"""One service for all faults: an echo, and beside it an engine with one place that follows scripts."""

import pytest

from tests.support.observe import quiescent
from tests.support.probe import python_path
from tests.support.service import Service

# Every request has its line, also what is routine.
ALL_LINES = {"LOG_LEVEL": "DEBUG"}
EDGE = {
    **ALL_LINES,
    "LLM_GATEWAY__ENGINES__ACTOR__PLUGIN": "scripted",
    "LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__PLACES": "1",
    "LLM_GATEWAY__ADMISSION__WAITERS_PER_PLACE": "64",
    "LLM_GATEWAY__SERVER__PING_SECONDS": "0.2",
    "LLM_GATEWAY__CORS__ORIGINS": '["https://page.example"]',
}


@pytest.fixture(scope="session")
def probe_path(tmp_path_factory):
    """Let a service find the probe."""
    return python_path(tmp_path_factory.mktemp("site") / "probe-1.0.dist-info")


@pytest.fixture(scope="session")
def running_edge(probe_path):
    with Service(PYTHONPATH=probe_path, **EDGE) as service:
        yield service


@pytest.fixture
def edge(running_edge):
    """The service, and after the test the assertion that nothing of it is left."""
    with quiescent(running_edge) as service:
        yield service


@pytest.fixture(scope="module")
def running_hasty(probe_path):
    seconds = {"LLM_GATEWAY__SERVER__IDLE_SECONDS": "1", "LLM_GATEWAY__SERVER__BODY_SECONDS": "1"}
    with Service(PYTHONPATH=probe_path, **ALL_LINES, **seconds) as service:
        service.client.headers["connection"] = "close"  # a kept one could be closed while it is taken up again
        yield service


@pytest.fixture
def hasty(running_hasty):
    """A service that waits a second for a head, and a second for a body."""
    with quiescent(running_hasty) as service:
        yield service
