"""Engines that requests load: waiting, failing, leaving and making room, with engines that load when they are let."""

import asyncio
import threading
from collections import Counter, deque
from typing import ClassVar

import pytest
from msgspec import Struct, structs

from gateway.admission import QueueTimeout
from gateway.config import EngineSettings, ModelsSettings
from gateway.engine import (
    Capability,
    DeadlineExceeded,
    Draining,
    Engine,
    Health,
    LoadFailed,
    ModelCard,
    Plugin,
    Status,
    Unavailable,
    UnknownModel,
)
from gateway.flow.deadline import Deadline
from gateway.hosting.directory import NotLoaded
from gateway.hosting.hosted import LoadProgress
from gateway.hosting.hosting import Hosting

PATIENCE = 60.0


class Settings(Struct, frozen=True):
    model: str = "m"
    size: int | None = None


class Obedient(Engine):
    """Loads when its gate is open, and fails as long as it is told to; knows what is entered at the moment."""

    gates: ClassVar[dict[str, asyncio.Event]] = {}
    failing: ClassVar[set[str]] = set()
    entries: ClassVar[Counter[str]] = Counter()
    inside: ClassVar[set[str]] = set()
    most: ClassVar[int] = 0

    def __init__(self, settings):
        self.settings = settings
        self.health = Health.READY

    def models(self):
        name = self.settings.model.rpartition("/")[2]
        return (ModelCard(name=f"{name}-card", context_window=8, capabilities=frozenset({Capability.COMPLETION})),)

    async def generate(self, request):
        raise NotImplementedError
        yield

    async def status(self):
        return Status(health=self.health, detail="it broke" if self.health is Health.FAILED else "")

    async def __aenter__(self):
        name = self.settings.model
        self.entries[name] += 1
        assert name not in self.inside, "two of one name"
        self.inside.add(name)
        type(self).most = max(self.most, len(self.inside))
        try:
            await asyncio.sleep(0)
            if name in self.gates:
                await self.gates[name].wait()
            self.check()
        except BaseException:
            self.inside.discard(name)
            raise
        return self

    def check(self):
        if self.settings.model in self.failing:
            raise LoadFailed("the folder is empty")

    async def __aexit__(self, *_):
        await asyncio.sleep(0)
        self.inside.discard(self.settings.model)


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    Obedient.gates, Obedient.failing, Obedient.entries, Obedient.inside, Obedient.most = {}, set(), Counter(), set(), 0
    made = Plugin(Settings, Obedient, estimate=lambda settings: settings.size)
    for module in ("hosting.hosted", "supervisor.specs"):
        monkeypatch.setattr(f"gateway.{module}.load", lambda _: made)


def demand(model, size=None, **own):
    return EngineSettings(plugin="x", settings={"model": model, "size": size}, **{"load": "demand", **own})


def hosting(*engines, drain_seconds=5.0, there=(), **models):
    named = {engine.settings["model"]: engine for engine in engines}
    return Hosting(named, drain_seconds, models=ModelsSettings(**models), there=lambda: there)


def named(found, name):
    return next(hosted for hosted in found.engines if hosted.name == name)


async def until(look):
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.001)


class Use:
    """A request that holds an engine until it is let go."""

    def __init__(self, found, name, seconds=PATIENCE, **options):
        self.deadline = Deadline(seconds)
        self.lease = found.lease(named(found, name), self.deadline, **options)
        self.go, self.holds = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        async with self.deadline:
            await self.deadline.wait(self._hold())

    async def _hold(self):
        async with self.lease as engine:
            assert engine.settings.model in Obedient.inside
            self.holds.set()
            await self.go.wait()
            assert engine.settings.model in Obedient.inside

    async def end(self):
        self.go.set()
        async with asyncio.timeout(PATIENCE):
            await self.task


async def use(found, name):
    await Use(found, name).end()


async def test_a_service_whose_only_engine_is_on_demand_is_ready_and_loads_nothing():
    async with hosting(demand("a")) as found:
        async with asyncio.timeout(PATIENCE):
            await found.settled.wait()
        assert (found.health, found.directory.up()) == (Health.READY, {"a": True})
        assert Obedient.entries == {}
        assert (named(found, "a").health, named(found, "a").is_up) == (Health.UNLOADED, False)


async def test_a_model_is_found_by_the_names_of_the_configuration_before_it_is_loaded_and_by_its_own_afterwards():
    async with hosting(demand("org/a")) as found:
        for name in ("org/a", "a", None):
            with pytest.raises(NotLoaded) as raised:
                found.find(name)
            assert raised.value.hosted is found.engines[0]
        with pytest.raises(UnknownModel, match="'a'"):
            found.find("a-card")
        await use(found, "org/a")
        assert found.find("a-card")[1].context_window == 8
        assert found.find("org/a")[1].name == "a-card"


async def test_requests_for_one_model_load_it_once():
    async with hosting(demand("a")) as found:
        await asyncio.gather(*[use(found, "a") for _ in range(20)])
        assert Obedient.entries == {"a": 1}
        await use(found, "a")
        assert Obedient.entries == {"a": 1}


async def test_a_client_that_leaves_does_not_end_the_load_for_others():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found:
        first, second = Use(found, "a"), Use(found, "a")
        await until(lambda: Obedient.entries["a"])
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
        Obedient.gates["a"].set()
        await second.end()
        assert (Obedient.entries["a"], named(found, "a").resident.leases) == (1, 0)


@pytest.mark.parametrize("by_queue", [True, False])
async def test_a_request_waits_for_the_load_within_its_time_and_the_load_goes_on(by_queue):
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found:
        own = Use(found, "a", until=0.0) if by_queue else Use(found, "a", seconds=0.01)
        with pytest.raises(QueueTimeout if by_queue else DeadlineExceeded, match="'a' was not loaded within"):
            await own.task
        Obedient.gates["a"].set()
        await use(found, "a")
        assert Obedient.entries["a"] == 1


async def test_a_request_with_another_engine_does_not_wait_and_the_load_begins():
    async with hosting(demand("a")) as found:
        with pytest.raises(Unavailable, match="not loaded"):
            await Use(found, "a", is_patient=False).task
        await until(lambda: named(found, "a").health is Health.READY)


async def test_a_load_that_fails_is_told_to_all_that_wait_and_tried_again_after_a_pause():
    Obedient.failing.add("a")
    async with hosting(demand("a")) as found:
        for own in [Use(found, "a") for _ in range(3)]:
            with pytest.raises(Unavailable, match="the folder is empty") as raised:
                await own.task
            assert raised.value.retry_after > 1
        assert Obedient.entries["a"] == 1
        assert found.health is Health.FAILED
        with pytest.raises(Unavailable, match="the folder is empty"):
            found.find("a")
        with pytest.raises(Unavailable, match="the folder is empty"):
            await use(found, "a")
        assert Obedient.entries["a"] == 1
        named(found, "a").resident.retry_at = 0.0
        assert found.health is Health.READY
        Obedient.failing.clear()
        await use(found, "a")
        assert Obedient.entries["a"] == 2
        assert found.loads.counts.loads == {("a", "failed"): 1, ("a", "ok"): 1}


async def test_by_hand_a_load_that_failed_is_tried_at_once():
    Obedient.failing.add("a")
    async with hosting(demand("a")) as found:
        with pytest.raises(LoadFailed, match="the folder is empty"):
            await found.load("a")
        Obedient.failing.clear()
        assert (await found.load("a")).health is Health.READY


async def test_an_idle_model_is_unloaded_and_the_next_request_loads_it_again():
    async with hosting(demand("a", idle_seconds=0.01)) as found:
        await use(found, "a")
        await until(lambda: not Obedient.inside)
        assert named(found, "a").detail == "not loaded, for it was idle; the next request loads it"
        assert found.find("a")[1].name == "a-card"
        await use(found, "a")
        assert Obedient.entries["a"] == 2
        assert found.loads.counts.evictions["a", "idle"] >= 1


async def test_room_is_made_by_the_least_recently_used_and_never_by_a_busy_one():
    async with hosting(demand("a"), demand("b"), demand("c"), max_loaded=2) as found:
        busy = Use(found, "a")
        await busy.holds.wait()
        await use(found, "b")
        await use(found, "c")
        assert Obedient.inside == {"a", "c"}
        assert found.loads.counts.evictions == {("b", "room"): 1}
        other = Use(found, "c")
        await other.holds.wait()
        waits = Use(found, "b")
        await asyncio.sleep(0.02)
        assert not waits.holds.is_set()
        await busy.end()
        await waits.end()
        await other.end()
        assert Obedient.most == 2


async def test_a_model_in_steady_use_makes_way_in_the_end():
    async with hosting(demand("a"), demand("b"), max_loaded=1) as found:
        overlapping = [Use(found, "a")]
        await overlapping[0].holds.wait()
        wanted = Use(found, "b")
        for _ in range(50):  # there is always one, and yet the other model has its turn
            overlapping.append(Use(found, "a"))
            await asyncio.sleep(0.001)
            await overlapping.pop(0).end() if overlapping[0].holds.is_set() else None
            if wanted.holds.is_set():
                break
        assert wanted.holds.is_set()
        await wanted.end()
        for own in overlapping:
            await own.end()
        assert Obedient.most == 1


async def test_what_can_never_fit_is_refused_before_anything_is_built():
    async with hosting(demand("a", 11), demand("b", 10), memory_budget=10) as found:
        with pytest.raises(Unavailable, match="'a' cannot be loaded: it would take about 11 bytes"):
            await use(found, "a")
        with pytest.raises(LoadFailed, match="about 11 bytes"):
            await found.load("a")
        assert Obedient.entries == {}
        assert found.loads.counts.loads == {("a", "refused"): 2}
        await use(found, "b")


async def test_the_budget_bounds_what_is_loaded_at_once():
    engines = [demand(name, size) for name, size in (("a", 4), ("b", 4), ("c", 4))]
    async with hosting(*engines, memory_budget=8) as found:
        await asyncio.gather(*[use(found, name) for name in "abcabc"])
        assert Obedient.most == 2
        assert found.loads.sizes() == {(name,): 4.0 for name in Obedient.inside}


async def test_a_pinned_model_is_not_unloaded_for_others():
    async with hosting(demand("a", pinned=True), demand("b"), demand("c"), max_loaded=2) as found:
        await use(found, "a")
        await use(found, "b")
        await use(found, "c")
        assert Obedient.inside == {"a", "c"}


async def test_engines_of_the_start_are_loaded_in_their_order_as_far_as_there_is_room_and_the_others_on_call():
    engines = [demand(name, load="start") for name in "abc"]
    async with hosting(*engines, max_loaded=2) as found:
        async with asyncio.timeout(PATIENCE):
            await found.settled.wait()
        assert Obedient.inside == {"a", "b"}
        assert found.health is Health.READY
        await use(found, "c")
        assert Obedient.inside == {"b", "c"}
        await use(found, "a")


async def test_an_engine_that_is_never_loaded_by_itself_is_loaded_by_hand():
    async with hosting(demand("a", load="never")) as found:
        assert found.health is Health.UNLOADED
        with pytest.raises(Unavailable, match="by hand only"):
            found.find("a")
        with pytest.raises(Unavailable, match="by hand only"):
            await use(found, "a")
        assert (await found.load("a")).health is Health.READY
        assert found.health is Health.READY
        await use(found, "a")
        await found.unload("a")
        with pytest.raises(Unavailable):
            found.find("a-card")


async def test_unloaded_by_hand_an_engine_on_demand_comes_back_and_another_does_not():
    async with hosting(demand("a"), demand("b", load="start")) as found:
        async with asyncio.timeout(PATIENCE):
            await found.settled.wait()
        await use(found, "a")
        await found.unload("a")
        await found.unload("b")
        assert Obedient.inside == set()
        assert found.find("a-card")[1].name == "a-card"
        await use(found, "a")
        with pytest.raises(Unavailable, match="load it to use it again"):
            found.find("b-card")


async def test_a_request_that_comes_while_its_model_is_unloaded_has_it_loaded_again():
    async with hosting(demand("a")) as found:
        busy = Use(found, "a")
        await busy.holds.wait()
        unloading = asyncio.create_task(found.unload("a"))
        await until(lambda: named(found, "a").health is Health.UNLOADED)
        waits = Use(found, "a")
        await asyncio.sleep(0.01)
        assert not waits.holds.is_set()
        await busy.end()
        await unloading
        await waits.end()
        assert Obedient.entries["a"] == 2


async def test_an_engine_that_broke_is_left_and_loaded_again():
    async with hosting(demand("a")) as found:
        await use(found, "a")
        named(found, "a").engine.health = Health.FAILED
        await found.ask_all()
        assert named(found, "a").health is Health.FAILED
        await use(found, "a")
        assert (Obedient.entries["a"], Obedient.most) == (2, 1)


async def test_a_reload_that_replaces_an_engine_refuses_those_that_wait_for_it():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found:
        waits = Use(found, "a")
        await until(lambda: Obedient.entries["a"])
        await found.reload({"a": demand("b")})
        with pytest.raises(Unavailable, match="another engine of this name"):
            await waits.task
        Obedient.gates["a"].set()
        await use(found, "a")
        assert Obedient.inside == {"b"}


async def test_a_reload_that_changes_only_when_an_engine_is_loaded_leaves_it_where_it_is():
    async with hosting(demand("a")) as found:
        await use(found, "a")
        engine = named(found, "a").engine
        await found.reload({"a": demand("a", pinned=True, load="start")}, ModelsSettings(max_loaded=1))
        assert named(found, "a").engine is engine
        assert named(found, "a").resident.is_pinned
        await found.reload({"a": demand("a", idle_seconds=0.01)})
        found.loads.step()
        await until(lambda: not Obedient.inside)


async def test_a_lowered_bound_unloads_what_is_idle():
    engines = [demand("a"), demand("b")]
    async with hosting(*engines) as found:
        await use(found, "a")
        await use(found, "b")
        await found.reload({engine.settings["model"]: engine for engine in engines}, ModelsSettings(max_loaded=1))
        await until(lambda: Obedient.inside == {"b"})


async def test_what_waits_for_a_load_when_the_service_goes_down_has_the_time_of_the_drain():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a"), drain_seconds=0.01) as found:
        waits = Use(found, "a")
        await until(lambda: Obedient.entries["a"])
        found.drain()
        with pytest.raises(Draining):
            found.find("a")
        with pytest.raises(Draining):
            await waits.task


async def test_a_load_that_ends_during_the_drain_serves_those_that_waited():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found:
        waits = Use(found, "a")
        await until(lambda: Obedient.entries["a"])
        found.drain()
        Obedient.gates["a"].set()
        await waits.end()


async def test_a_process_that_an_earlier_worker_had_is_taken_over():
    async with hosting(demand("a"), demand("b"), there=("a",), max_loaded=1) as found:
        async with asyncio.timeout(PATIENCE):
            await found.settled.wait()
        assert Obedient.inside == {"a"}
        assert found.find("a")[1].name == "a-card"


async def test_the_progress_of_a_load_is_told_and_the_engine_is_held_then():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found, Deadline(PATIENCE) as deadline:
        lease = found.lease(named(found, "a"), deadline)
        updates = lease.updates()
        assert await anext(updates) == LoadProgress("a")
        Obedient.gates["a"].set()
        assert [update async for update in updates] == []
        assert named(found, "a").resident.leases == 1
        async with lease as engine:
            assert engine.settings.model == "a"
        assert named(found, "a").resident.leases == 0


async def test_a_client_that_leaves_while_it_is_told_of_the_load_holds_nothing():
    Obedient.gates["a"] = asyncio.Event()
    async with hosting(demand("a")) as found, Deadline(PATIENCE) as deadline:
        updates = found.lease(named(found, "a"), deadline).updates()
        await anext(updates)
        await until(lambda: Obedient.entries["a"])
        await updates.aclose()
        Obedient.gates["a"].set()
        await until(lambda: named(found, "a").health is Health.READY)
        assert (named(found, "a").resident.leases, named(found, "a").resident.claims) == (0, [])


async def test_the_card_of_a_model_stays_the_same_when_it_is_loaded_again():
    async with hosting(demand("a")) as found:
        await use(found, "a")
        card = found.find("a")[1]
        await found.unload("a")
        await use(found, "a")
        assert found.find("a")[1] is card


async def test_a_plugin_that_cannot_estimate_stops_no_load(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    broken = Plugin(Settings, Obedient, estimate=fail)
    monkeypatch.setattr("gateway.hosting.hosted.load", lambda _: broken)
    async with hosting(demand("a"), memory_budget=1) as found:
        await use(found, "a")
        assert structs.asdict(named(found, "a").resident)["size"] is None


async def told_until_held(found, name, told):
    async with Deadline(PATIENCE) as deadline:
        lease = found.lease(named(found, name), deadline)
        async for update in lease.updates():
            told.append(update.step)
        lease.leave()


async def test_what_a_load_waits_for_is_told_to_those_that_want_to_know_and_in_the_error_of_those_that_gave_up(
    monkeypatch,
):
    monkeypatch.setattr("gateway.hosting.lease._LOOK", 0.001)
    async with hosting(demand("a"), demand("b"), max_loaded=1) as found:
        busy, told = Use(found, "a"), []
        await busy.holds.wait()
        follows = asyncio.create_task(told_until_held(found, "b", told))
        await until(lambda: "waiting for room (1 busy)" in told)
        with pytest.raises(DeadlineExceeded, match=r"'b' was not loaded within 0.0 s: waiting for room \(1 busy\)"):
            await Use(found, "b", seconds=0.01).task
        comes_back = []
        again = asyncio.create_task(told_until_held(found, "a", comes_back))
        await busy.end()
        await follows
        await again
        assert named(found, "b").waits_for == named(found, "a").waits_for == ""


async def test_an_estimate_that_takes_long_is_told(estimates):
    gate, held = estimates("a", 1)
    async with hosting(demand("a", 4), memory_budget=4) as found:
        told = []
        follows = asyncio.create_task(told_until_held(found, "a", told))
        await until(lambda: not held and told)
        gate.set()
        await follows
        assert "estimating its size" in told


@pytest.fixture
def estimates(monkeypatch):
    """Have each estimate of an engine wait for an event of its own, in the order in which they begin."""
    gates = {}

    def estimate(settings):
        events = gates.get(settings.model)
        if events:
            assert events.popleft().wait(PATIENCE)
        return settings.size

    made = Plugin(Settings, Obedient, estimate=estimate)
    monkeypatch.setattr("gateway.hosting.hosted.load", lambda _: made)

    def hold(name, count):
        events = [threading.Event() for _ in range(count)]
        gates[name] = deque(events)
        return [*events, gates[name]]

    return hold


async def test_a_load_asked_for_during_the_estimate_of_the_start_is_made_also_where_the_start_has_no_room(estimates):
    gate, held = estimates("b", 1)
    engines = [demand(name, 4, load="start") for name in "ab"]
    async with hosting(*engines, memory_budget=4) as found:
        await until(lambda: not held)
        by_hand = asyncio.create_task(found.load("b"))
        await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(5):
            assert (await by_hand).health is Health.READY
        assert Obedient.inside == {"b"}
        assert Obedient.entries == {"a": 1, "b": 1}


@pytest.mark.parametrize("fails", [False, True])
async def test_an_engine_that_was_loaded_during_the_estimate_of_the_start_is_not_loaded_again(estimates, fails):
    [first, _] = estimates("a", 1)
    by_request, by_start, held = estimates("b", 2)
    if fails:
        Obedient.failing.add("b")
    async with hosting(demand("a", 4, load="start"), demand("b", 4, load="start"), memory_budget=8) as found:
        by_hand = asyncio.create_task(found.load("b"))
        await until(lambda: len(held) == 1)
        first.set()
        await until(lambda: not held)
        by_request.set()
        if fails:
            with pytest.raises(LoadFailed):
                await by_hand
        else:
            await by_hand
        by_start.set()
        async with asyncio.timeout(PATIENCE):
            await found.settled.wait()
        assert Obedient.entries["b"] == 1
        assert found.loads.counts.loads["b", "failed" if fails else "ok"] == 1


async def test_a_load_wished_for_during_an_estimate_is_made_though_the_request_that_began_it_has_left(estimates):
    gate, held = estimates("a", 1)
    async with hosting(demand("a", 4), memory_budget=4) as found:
        asks = Use(found, "a")
        await until(lambda: not held)
        with pytest.raises(Unavailable):
            await Use(found, "a", is_patient=False).task
        asks.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asks.task
        gate.set()
        await until(lambda: named(found, "a").health is Health.READY)


async def test_a_plugin_whose_estimate_panics_stops_no_load(monkeypatch):
    class Panic(BaseException):
        """As a library in Rust raises it."""

    def panic(_):
        raise Panic

    broken = Plugin(Settings, Obedient, estimate=panic)
    monkeypatch.setattr("gateway.hosting.hosted.load", lambda _: broken)
    async with hosting(demand("a"), memory_budget=1) as found:
        await Use(found, "a", seconds=5.0).end()
