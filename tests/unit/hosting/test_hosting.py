"""Loading, unloading, finding and draining, with engines that do as they are told."""

import asyncio
from typing import ClassVar

import pytest
from msgspec import Struct

from gateway.config import EngineSettings
from gateway.engine import (
    Capability,
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
from gateway.hosting.hosting import Hosting


class Settings(Struct, frozen=True):
    model: str = "m"
    fails: str = ""


class Obedient(Engine):
    """Loads when it is let, or fails as it is told."""

    made: ClassVar[list["Obedient"]] = []
    gate: asyncio.Event | None = None

    def __init__(self, settings):
        self.settings = settings
        self.entered = self.left = 0
        Obedient.made.append(self)

    def models(self):
        name = self.settings.model
        return (
            ModelCard(
                name=name.rpartition("/")[2],
                aliases=(name,),
                context_window=8,
                capabilities=frozenset({Capability.COMPLETION}),
            ),
        )

    async def generate(self, request):
        raise NotImplementedError
        yield

    async def __aenter__(self):
        self.entered += 1
        if Obedient.gate:
            await Obedient.gate.wait()
        if self.settings.fails == "load":
            raise LoadFailed("the folder is empty")
        if self.settings.fails == "bug":
            raise ZeroDivisionError("secret inside")
        return self

    async def __aexit__(self, *_):
        self.left += 1


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    Obedient.made, Obedient.gate = [], None
    for module in ("hosting.hosted", "supervisor.specs"):
        monkeypatch.setattr(f"gateway.{module}.load", lambda _: Plugin(Settings, Obedient))


def hosting(drain_seconds=5.0, **engines):
    engines = engines or {"default": {}}
    return Hosting({name: EngineSettings(plugin="x", settings=own) for name, own in engines.items()}, drain_seconds)


async def settled(found):
    async with asyncio.timeout(5):
        await found.settled.wait()


async def test_an_engine_is_entered_once_and_left_once():
    async with hosting() as found:
        await settled(found)
        assert found.health is Health.READY
        await found.load("m")
    assert [(engine.entered, engine.left) for engine in Obedient.made] == [(1, 1)]


async def test_while_it_loads_requests_are_told_to_come_back():
    Obedient.gate = asyncio.Event()
    async with hosting() as found:
        await asyncio.sleep(0)
        assert found.health is Health.STARTING
        with pytest.raises(Unavailable) as raised:
            found.find("m")
        assert raised.value.retry_after > 0
        Obedient.gate.set()
        await settled(found)
        assert found.find("m")[1].name == "m"


async def test_a_model_is_found_by_name_by_full_id_by_its_engine_and_by_default():
    async with hosting(a={"model": "org/first"}, b={"model": "second"}) as found:
        await settled(found)
        for name, expected in ((None, "first"), ("first", "first"), ("org/first", "first"), ("b", "second")):
            assert found.find(name)[1].name == expected
        with pytest.raises(UnknownModel, match=r"'nope'.*'first', 'second'"):
            found.find("nope")


async def test_one_engine_that_fails_leaves_the_others_serving():
    async with hosting(a={"fails": "load"}, b={"model": "second"}) as found:
        await settled(found)
        assert found.health is Health.READY
        assert (await found.status(found.engines[0])).detail == "the folder is empty"
        assert found.find("second")[1].name == "second"
        with pytest.raises(Unavailable, match="the folder is empty"):
            found.find(None)


async def test_where_every_engine_fails_the_service_has_failed():
    async with hosting(a={"fails": "load"}, b={"fails": "bug"}) as found:
        await settled(found)
        assert found.health is Health.FAILED


async def test_a_bug_in_a_plugin_tells_nothing_of_its_inside():
    async with hosting(a={"fails": "bug"}) as found:
        await settled(found)
        assert "secret" not in found.engines[0].detail


async def test_unloading_waits_for_what_runs_and_loading_makes_a_new_engine():
    async with hosting() as found:
        await settled(found)
        hosted = found.engines[0]
        async with Deadline(60) as deadline:
            async with found.lease(hosted, deadline):
                unloading = asyncio.create_task(found.unload("m"))
                await asyncio.sleep(0.01)
                assert not unloading.done()
                with pytest.raises(Unavailable):
                    found.find("m")
            await unloading
        assert found.health is Health.UNLOADED
        assert hosted.engine is None
        await found.unload("m")
        await found.load("m")
        assert found.find("m")[0].engine is Obedient.made[1]
    assert [(engine.entered, engine.left) for engine in Obedient.made] == [(1, 1), (1, 1)]


async def test_unloading_cuts_off_what_does_not_end():
    async with hosting(drain_seconds=0.01) as found:
        await settled(found)

        async def endless():
            await asyncio.Event().wait()
            yield

        async def run():
            async with Deadline(60) as deadline, found.lease(found.engines[0], deadline):
                await deadline.wait(anext(endless(), None))

        running = asyncio.create_task(run())
        await asyncio.sleep(0)
        await found.unload("m")
        with pytest.raises(Unavailable, match="unloaded before"):
            await running


async def test_draining_takes_nothing_new():
    async with hosting() as found:
        await settled(found)
        found.drain()
        assert found.health is Health.DRAINING
        with pytest.raises(Draining):
            found.find(None)


async def test_leaving_while_an_engine_loads_ends():
    Obedient.gate = asyncio.Event()
    async with asyncio.timeout(5):
        async with hosting():
            await asyncio.sleep(0)


async def test_a_load_that_fails_again_says_so():
    async with hosting(a={"fails": "load"}) as found:
        await settled(found)
        with pytest.raises(LoadFailed, match="the folder is empty"):
            await found.load("a")
        with pytest.raises(UnknownModel):
            await found.load("zzz")


async def test_a_model_is_called_by_its_name_however_it_was_asked_for_and_whether_it_is_loaded_or_not():
    async with hosting(a={"model": "org/first"}, b={"model": "second"}) as found:
        assert found.directory.name_of(None) == found.directory.name_of("a") == ""
        await settled(found)
        await found.unload("b")
        asked = (None, "first", "org/first", "a", "second", "b", "nope")
        assert [found.directory.name_of(name) for name in asked] == ["first"] * 4 + ["second"] * 2 + [""]


async def test_a_model_is_loaded_and_unloaded_by_name_by_full_id_and_by_its_engine():
    async with hosting(a={"model": "org/first"}) as found:
        await settled(found)
        for name in ("first", "org/first", "a"):
            assert (await found.unload(name)).engine is None
            assert (await found.load(name)).engine is not None


async def test_while_an_engine_loads_nobody_says_that_its_model_is_unknown():
    Obedient.gate = asyncio.Event()
    async with hosting() as found:
        await asyncio.sleep(0)
        for change in (found.load, found.unload):
            with pytest.raises(Unavailable, match="the model is loading") as raised:
                await change("m")
            assert raised.value.retry_after > 0
        unloading = asyncio.create_task(found.unload("default"))
        await asyncio.sleep(0)
        assert not unloading.done()
        Obedient.gate.set()
        assert (await unloading).health is Health.UNLOADED


async def test_draining_loads_nothing():
    async with hosting() as found:
        await settled(found)
        await found.unload("m")
        found.drain()
        with pytest.raises(Draining):
            await found.load("m")
    assert len(Obedient.made) == 1


async def test_a_second_engine_of_the_same_name_is_refused():
    async with hosting(a={"model": "m"}, b={"model": "x/m"}) as found:
        await settled(found)
        assert sorted(hosted.health for hosted in found.engines) == [Health.FAILED, Health.READY]
        assert any("serves the name 'm' already" in hosted.detail for hosted in found.engines)
    assert [engine.left for engine in Obedient.made] == [1, 1]


async def test_an_engine_that_serves_nothing_has_failed(monkeypatch):
    monkeypatch.setattr(Obedient, "models", lambda self: ())
    async with hosting() as found:
        await settled(found)
        assert (found.engines[0].health, found.engines[0].detail) == (Health.FAILED, "the engine serves no model")
    assert Obedient.made[0].left == 1


async def test_an_engine_that_leaves_badly_does_not_keep_the_others(monkeypatch):
    async def leave(self, *_):
        self.left += 1
        raise ZeroDivisionError

    monkeypatch.setattr(Obedient, "__aexit__", leave)
    async with hosting(a={"model": "m"}, b={"model": "n"}) as found:
        await settled(found)
    assert [engine.left for engine in Obedient.made] == [1, 1]


async def test_an_engine_that_broke_is_seen_and_can_be_loaded_again():
    async with hosting() as found:
        await settled(found)
        broken = found.engines[0].engine

        async def status():
            return Status(health=Health.FAILED, detail="the thread has ended")

        broken.status = status
        assert (await found.status(found.engines[0])).health is Health.FAILED
        assert (found.health, found.directory.up()) == (Health.FAILED, {"default": False})
        await found.load("m")
        assert found.health is Health.READY
        assert broken.left == 1


@pytest.mark.parametrize("fault", ["late", "bug"])
async def test_an_engine_that_cannot_say_how_it_is_does_not_count_until_it_can(monkeypatch, fault):
    monkeypatch.setattr("gateway.hosting.status._STATUS_SECONDS", 0.01)
    async with hosting(a={"model": "m"}, b={"model": "n"}) as found:
        await settled(found)
        engine = found.engines[0].engine

        async def status():
            if fault == "late":
                await asyncio.Event().wait()
            raise ZeroDivisionError

        engine.status = status
        statuses = await found.ask_all()
        assert [status.health for status in statuses] == [Health.FAILED, Health.READY]
        assert found.directory.up() == {"a": False, "b": True}
        assert found.health is Health.READY
        del engine.status
        await found.ask_all()
        assert found.directory.up() == {"a": True, "b": True}


def configured(**engines):
    return {name: EngineSettings(plugin="x", settings=own) for name, own in engines.items()}


FIRST, SECOND, THIRD = {"model": "a"}, {"model": "b"}, {"model": "c"}


@pytest.mark.parametrize(
    ("steps", "serves"),
    [
        ([{"one": SECOND}, {"one": FIRST}], "a"),
        ([{"one": SECOND}, {"one": THIRD}], "c"),
        ([{}, {"one": FIRST}], "a"),
        ([{"one": SECOND}, {}, {"one": THIRD}, {"one": FIRST}], "a"),
        ([{"one": SECOND}, {}], None),
    ],
)
async def test_of_reloads_within_one_drain_the_last_counts_and_no_two_engines_have_one_name(steps, serves):
    stays = {"other": {"model": "stays"}}
    async with hosting(**stays, one=FIRST) as found:
        await settled(found)
        old = found.find("a")[0]
        async with Deadline(60) as deadline, found.lease(old, deadline):
            for step in steps:
                await found.reload(configured(**stays, **step))
                await asyncio.sleep(0.01)
            # The answer on its way has its engine; nothing else of that name was entered beside it.
            assert [made.settings.model for made in Obedient.made if made.entered > made.left] == ["stays", "a"]
            assert old.engine is not None
        await found._tasks.wait()
        wanted = ["stays"] if serves is None else ["stays", serves]
        assert [made.settings.model for made in Obedient.made if made.entered > made.left] == wanted
        assert [found.find(name)[1].name for name in wanted] == wanted
        assert old.engine is None
    assert all(made.entered == made.left for made in Obedient.made)


async def test_an_engine_that_is_loaded_by_hand_during_a_reload_waits_for_the_old_one():
    async with hosting(one=FIRST) as found:
        await settled(found)
        old = found.find("a")[0]
        async with Deadline(60) as deadline, found.lease(old, deadline):
            await found.reload(configured(one=SECOND))
            loading = asyncio.create_task(found.load("one"))
            await asyncio.sleep(0.01)
            assert len(Obedient.made) == 1
            assert not loading.done()
        assert (await loading).cards[0].name == "b"
        assert [(made.entered, made.left) for made in Obedient.made] == [(1, 1), (1, 0)]


async def test_an_engine_that_a_reload_removes_while_it_waits_is_not_loaded_by_hand_either():
    async with hosting(other={"model": "stays"}, one=FIRST) as found:
        await settled(found)
        async with Deadline(60) as deadline, found.lease(found.find("a")[0], deadline):
            await found.reload(configured(other={"model": "stays"}, one=SECOND))
            loading = asyncio.create_task(found.load("one"))
            await asyncio.sleep(0.01)
            await found.reload(configured(other={"model": "stays"}))
        with pytest.raises(LoadFailed, match="another engine of this name, or none"):
            await loading
        assert len(Obedient.made) == 2


async def test_an_engine_that_is_still_drained_is_left_with_the_service():
    async with hosting(other={"model": "stays"}, one=FIRST) as found:
        await settled(found)
        old = found.find("a")[0]
        old.running.add(Deadline(60))
        old.idle.clear()
        await found.reload(configured(other={"model": "stays"}))
        await asyncio.sleep(0.01)
        assert Obedient.made[1].left == 0
        old.running.clear()
        old.idle.set()
    assert [made.left for made in Obedient.made] == [1, 1]
