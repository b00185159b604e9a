"""How the configuration reaches the worker: the supervisor hands it over to the server, which relays it."""

import os

import msgspec
from msgspec import Struct

from gateway.config.layers import ConfigError
from gateway.config.load import read
from gateway.config.schema import Config
from gateway.config.sources import HANDOVER


class Handover(Struct, frozen=True):
    """What the supervisor leaves for the server, and that for its worker: `giver` is who left it.

    `address` is where to listen, `control` the path at which the supervisor can be asked, and `log` the descriptor
    that the log goes to.
    """

    giver: int
    config: Config
    address: str
    control: str
    log: int = 1


def hand_over(config: Config, *, address: str, control: str) -> None:
    """Leave all that the processes which this one starts must know."""
    _leave(Handover(os.getpid(), config, address, control))


def relay(log: int) -> Handover:
    """Take what the supervisor left, and leave the same for the worker, which logs to `log`."""
    found = handed_over()
    if found is None:
        raise ConfigError("the server is started by llm-gateway serve")
    _leave(msgspec.structs.replace(found, giver=os.getpid(), log=log))
    # It has done its part: no endpoint is left. The worker's SDK would empty the metrics too, which are never sent.
    os.environ.pop("OTEL_SDK_DISABLED", None)
    return found


def take_over() -> Config:
    """Take the configuration that was left; without one, read all layers."""
    found = handed_over()
    return found.config if found else read()


def handed_over() -> Handover | None:
    """Find what the parent process left; `None` where a foreign server runs the application."""
    text = os.environ.get(HANDOVER)
    found = msgspec.json.decode(text, type=Handover) if text else None
    return found if found is not None and found.giver == os.getppid() else None


def _leave(handover: Handover) -> None:
    os.environ[HANDOVER] = msgspec.json.encode(handover).decode()
