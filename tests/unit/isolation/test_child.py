"""What an engine's process sets up before its engine loads."""

import logging

import msgspec
import pytest

from gateway.engine import load
from gateway.engine.progress import step_of
from gateway.isolation import child
from gateway.isolation.launch import Launch


@pytest.fixture
def built(caplog):
    """Build the echo engine in this process, for a log of the level that is asked for."""
    logger = logging.getLogger("gateway_echo")

    def build(level):
        settings = msgspec.msgpack.encode(load("echo").settings())
        launch = Launch(parent=1, listener=3, plugin="echo", settings=settings, beat=1, leave=1, log_level=level)
        with caplog.at_level(logging.INFO, "gateway"):
            child._build(launch)
        return logger

    yield build
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_the_level_of_the_log_is_the_plugins_and_no_librarys(built, level):
    before = logging.getLogger().level
    assert built(level).level == level
    assert logging.getLogger().level == before


def test_importing_the_plugin_is_a_step(built, caplog):
    built(logging.INFO)
    assert [step_of(record) for record in caplog.records] == [
        ("importing the plugin echo", 0.0),
        ("importing the plugin echo", 1.0),
    ]
