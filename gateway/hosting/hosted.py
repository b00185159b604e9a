"""One configured engine, whether it is loaded or not."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import NamedTuple, Self, final

import msgspec
from loguru import logger
from msgspec import Struct, structs

from gateway.config import EngineSettings
from gateway.engine import (
    Engine,
    GenerateEvent,
    GenerateRequest,
    Health,
    LoadFailed,
    ModelCard,
    Status,
    load,
)
from gateway.flow.deadline import Deadline
from gateway.hosting.resident import Resident
from gateway.isolation import IsolatedEngine, Starter
from gateway.linux import cpu_seconds, resident_bytes
from gateway.supervisor.specs import spec_of


def begin(engine: Engine, request: GenerateRequest, *, is_patient: bool) -> AsyncGenerator[GenerateEvent, None]:
    """Ask an engine; a request that is not patient has another one, and does not wait for a process that is away."""
    if isinstance(engine, IsolatedEngine):
        return engine.generate(request, is_patient=is_patient)
    return engine.generate(request)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@final
class LoadProgress(NamedTuple):
    """How far the load of a model is: what it is at, and the share of that which is done, from 0 to 1."""

    model: str
    step: str = ""
    share: float = 0.0


class HostedEngine(Struct, kw_only=True, eq=False):
    """One configured engine, loaded or not; `cards` are remembered while it is unloaded.

    Before its first load an engine that need not load at the start has a card of its names alone (`knows_cards`). One
    that is `is_on_call` is loaded by a request; `waits_for` is what holds up the load. `running` are the requests that
    it answers, `waiting` those that wait for its load. `told` is its last status.
    """

    name: str
    resident: Resident = msgspec.field(default_factory=lambda: Resident(name=""))
    is_on_call: bool = False
    waits_for: str = ""
    knows_cards: bool = True
    config: EngineSettings
    build: Callable[[], Engine]
    engine: Engine | None = None
    entering: IsolatedEngine | None = None
    health: Health = Health.STARTING
    detail: str = "the model is loading"
    is_silent: bool = False
    is_replaced: bool = False
    cache_used: int = 0
    told: Status = Status(health=Health.STARTING)
    past_restarts: Counter[str] = msgspec.field(default_factory=Counter)
    cards: tuple[ModelCard, ...] = ()
    running: set[Deadline] = msgspec.field(default_factory=set)
    waiting: set[Deadline] = msgspec.field(default_factory=set)
    idle: asyncio.Event = msgspec.field(default_factory=_set_event)

    @classmethod
    def of(cls, name: str, config: EngineSettings, start: Starter) -> Self:
        """Make the hosted engine; one with a process of its own has it started by `start`."""
        build = _builder(name, config, start)
        hosted = cls(name=name, config=config, build=build, resident=Resident(name=name))
        hosted.configure(config)
        if config.load != "start":
            hosted.cards, hosted.knows_cards = (_card_of(name, config),), False
            hosted.set_aside("it was not asked for yet")
        return hosted

    def configure(self, config: EngineSettings) -> None:
        """Go by other settings, which differ in when the engine is loaded and unloaded at most."""
        if self.config.load != config.load:
            self.is_on_call = config.load == "demand"
        self.config = config
        self.resident.is_pinned, self.resident.idle_seconds = config.pinned, config.idle_seconds

    def set_aside(self, why: str) -> None:
        """Note that the engine is unloaded and no request is to blame for it: the next one that needs it loads it."""
        self.is_on_call = self.config.load != "never"
        how = "the next request loads it" if self.is_on_call else "it is loaded by hand only"
        self.health, self.detail = Health.UNLOADED, f"not loaded, for {why}; {how}"

    def estimate(self) -> int | None:
        """Estimate the bytes that a load takes, from files, which may take a while; `None` where that is not known."""
        plugin = load(self.config.plugin)
        try:
            return plugin.estimate(msgspec.convert(self.config.settings, plugin.settings))
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, and its load will say what is wrong
            logger.opt(exception=error).warning("what {!r} would take in memory cannot be estimated", self.name)
            return None

    def answers_to(self, name: str) -> ModelCard | None:
        """Find the card that `name` means: a model's name, its full id, or this engine's own name."""
        named = (card for card in self.cards if name == card.name or name in card.aliases)
        return next(named, next(iter(self.cards), None) if name == self.name else None)

    def update(self, status: Status | None) -> None:
        """Take the engine's status; `None` if it did not answer."""
        self.is_silent = status is None
        self.cache_used = 0 if status is None else status.cache_used
        self.is_replaced = status is not None and status.health is Health.STARTING
        if status is not None:
            self.told = status
            if status.health is Health.FAILED:
                self.health, self.detail = status.health, status.detail

    @property
    def plugin(self) -> str:
        """The name of the plugin."""
        return self.config.plugin

    @property
    def reason(self) -> str:
        """Why it is not loaded; while its process is started, what that waits for."""
        return self.detail if self.entering is None else self.entering.detail

    @property
    def effective_health(self) -> Health:
        """Its health as of the last status: one that does not answer has failed, for now; one on call serves."""
        if self.health is not Health.READY:
            return Health.READY if self.is_asleep else self.health
        if self.is_replaced:
            return Health.STARTING
        return Health.FAILED if self.is_silent else Health.READY

    @property
    def is_up(self) -> bool:
        """Whether it serves now: a process that is being replaced would have a request wait for the next one."""
        is_replaced = isinstance(self.engine, IsolatedEngine) and not self.engine.is_up
        return self.health is self.effective_health is Health.READY and not is_replaced

    @property
    def is_asleep(self) -> bool:
        """Whether it is not loaded, and the next request that needs it loads it, or waits for that."""
        return self.health is not Health.READY and self.is_on_call and not self.is_paused

    @property
    def is_paused(self) -> bool:
        """Whether its last load failed so lately that it is not tried again yet."""
        return self.health is Health.FAILED and time.monotonic() < self.resident.retry_at

    @property
    def retry_after(self) -> float:
        """The seconds after which it may serve."""
        return max(self.resident.retry_at - time.monotonic(), 2.0) if self.is_paused else 2.0

    @property
    def given_up(self) -> str:
        """Why its process is not replaced any more; empty where it serves, or will again."""
        return self.engine.given_up if isinstance(self.engine, IsolatedEngine) else ""

    @property
    def label(self) -> str:
        """The name of its first model, as far as it is known."""
        return self.cards[0].name if self.cards else self.name

    @property
    def progress(self) -> LoadProgress:
        """How far its load is, as far as its process says, or what its load waits for."""
        step = None if self.entering is None else self.entering.step
        return LoadProgress(self.label, self.waits_for) if step is None else LoadProgress(self.label, *step)

    @property
    def restarts(self) -> Counter[str]:
        """The number of times that its process was replaced, by reason."""
        return self.past_restarts + (self.engine.restarts if isinstance(self.engine, IsolatedEngine) else Counter())

    @property
    def resident_bytes(self) -> int | None:
        """The memory that its process has in RAM; `None` where it has no process of its own."""
        return None if self._pid is None else resident_bytes(self._pid)

    @property
    def cpu_seconds(self) -> float | None:
        """The time that its process has computed for since it began; `None` where it has no process of its own."""
        return None if self._pid is None else cpu_seconds(self._pid)

    @property
    def _pid(self) -> int | None:
        return self.engine.pid if isinstance(self.engine, IsolatedEngine) else None

    async def enter(self, check_cards: Callable[[Self, tuple[ModelCard, ...]], None]) -> None:
        """Build the engine and enter it; the outcome is in `health` and in the log.

        An engine that broke is left first. `check_cards` raises `LoadFailed` for models that cannot be served.
        """
        await self.leave()
        self.health, self.detail = Health.STARTING, "the model is loading"
        started = asyncio.get_running_loop().time()
        try:
            # To build an engine may import torch, which takes seconds; the event loop answers meanwhile.
            engine = await asyncio.to_thread(self.build)
            self.entering = engine if isinstance(engine, IsolatedEngine) else None
            self.engine = await engine.__aenter__()
            cards = tuple(self.engine.models())
            check_cards(self, cards)
        except asyncio.CancelledError:
            self.health, self.detail = Health.UNLOADED, "the load was given up"
            raise
        except LoadFailed as error:
            await self.leave()
            self.health, self.detail = Health.FAILED, error.message
            logger.bind(event="load_failed", engine=self.name).error("{}", error.message)
            return
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; the others must go on
            await self.leave()
            self.health, self.detail = Health.FAILED, "the engine could not be loaded; the log says why"
            logger.opt(exception=error).bind(event="load_failed", engine=self.name).error("the engine did not load")
            return
        finally:
            self.entering = None
        if cards != self.cards:  # equal ones stay the same: a queue is known by its card
            self.cards = cards
        self.health, self.detail, self.knows_cards = Health.READY, "", True
        seconds, names = asyncio.get_running_loop().time() - started, ", ".join(card.name for card in cards)
        logger.bind(event="loaded", engine=self.name, model=names).info("{} is ready after {:.1f} s", names, seconds)

    async def leave(self) -> None:
        """Leave the engine, if there is one; what goes wrong there must not keep the others from being left."""
        self.past_restarts = self.restarts
        engine, self.engine, self.is_silent, self.is_replaced = self.engine, None, False, False
        self.cache_used, self.told = 0, structs.replace(self.told, drift=None)
        if engine is not None:
            try:
                await engine.__aexit__(None, None, None)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
                logger.opt(exception=error).bind(event="unload_failed", engine=self.name).error("an engine left badly")


def _builder(name: str, config: EngineSettings, start: Starter) -> Callable[[], Engine]:
    if (spec := spec_of(name, config)) is not None:
        return partial(IsolatedEngine, spec, start)
    plugin = load(config.plugin)
    return partial(plugin.build, msgspec.convert(config.settings, plugin.settings))


def _card_of(name: str, config: EngineSettings) -> ModelCard:
    """Make a card of the names that the configuration has for a model; what it can do is known once it is loaded."""
    model = config.settings.get("model")
    served = config.settings.get("served_name")
    model = model if isinstance(model, str) else ""
    last = model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    own = served if isinstance(served, str) else last or name
    aliases = () if model.startswith(("/", ".", "~")) else (model,)
    return ModelCard(
        name=own,
        aliases=tuple(alias for alias in dict.fromkeys((*aliases, last)) if alias and alias != own),
        context_window=0,
        capabilities=frozenset(),
        note="it was not loaded yet: what it can do is known once it is",
    )
