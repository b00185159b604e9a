"""What all tests share: one echo service for those that only ask, and the skips' reasons in the summary."""

import gc
import logging
import os

import pytest
from hypothesis import settings

import tests.support.ray_cluster  # noqa: F401 - before anything imports Ray
from tests.support.service import Service

_LEVEL = logging.getLogger().level

# The services and commands that tests start compile the gateway once, not each of them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine is no counter-example.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


_unfreeze = gc.unfreeze


def pytest_collection_finish():
    """Keep the collector off what was imported and collected, which stays: an engine that is left has it look.

    That engine would have it look at all of this from then on, and the next one at nothing that is made meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.freeze = gc.unfreeze = _nothing


def pytest_unconfigure():
    """Let go again: an extension that is taken down looks for what nobody collected."""
    _unfreeze()


def _nothing():
    """Stand in the place of a function of the collector."""


@pytest.fixture(scope="session")
def service():
    """One real service with the echo engine; for tests that leave it as they found it."""
    with Service() as running:
        yield running


@pytest.fixture(autouse=True)
def _level():
    """Put all logs back: an application that a test makes in this process sets its own level and silences others."""
    yield
    root = logging.getLogger()
    root.setLevel(_LEVEL)  # the level before this test may be that of an application of its module's fixture
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
