"""Pass the configuration from the supervisor to the server, and from there to the worker."""

import os

import msgspec
from msgspec import Struct

from gateway.config.layers import ConfigError
from gateway.config.schema import Config
from gateway.config.sources import HANDOVER


class Handover(Struct, frozen=True):
    """The configuration and the resources of a child process; `giver` is the parent's process id.

    `address` is the address to listen on, `control` the path of the supervisor's socket, and `log` the file descriptor
    that the log is written to.
    """

    giver: int
    config: Config
    address: str
    control: str
    log: int = 1


def hand_over(config: Config, *, address: str, control: str) -> None:
    """Put the configuration into the environment, for the child processes."""
    _leave(Handover(os.getpid(), config, address, control))


def relay(log: int) -> Handover:
    """Take what the supervisor handed over, and hand it on to the worker, which logs to `log`."""
    found = handed_over()
    if found is None:
        raise ConfigError("the server is started by llm-gateway serve")
    _leave(msgspec.structs.replace(found, giver=os.getpid(), log=log))
    # It has removed the endpoints already; the worker's SDK would switch off the metrics too, which are never sent.
    os.environ.pop("OTEL_SDK_DISABLED", None)
    return found


def handed_over() -> Handover | None:
    """Return what the parent process handed over; `None` if another server runs the application."""
    text = os.environ.get(HANDOVER)
    found = msgspec.json.decode(text, type=Handover) if text else None
    return found if found is not None and found.giver == os.getppid() else None


def _leave(handover: Handover) -> None:
    os.environ[HANDOVER] = msgspec.json.encode(handover).decode()
