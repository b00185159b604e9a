"""From names to engines: models by their names, and routes by the first engine that can serve."""

import pytest
from msgspec import structs

from gateway.auth import ANONYMOUS
from gateway.config import Config, ConfigError, EngineSettings, read
from gateway.config.snapshot import CurrentConfig, Snapshot
from gateway.engine import Unavailable, UnknownModel
from gateway.hosting.directory import NotLoaded
from gateway.hosting.hosting import Hosting
from gateway.hosting.routing import Router

ENGINES = {
    "first": EngineSettings(plugin="echo", settings={"model": "someone/one"}),
    "second": EngineSettings(plugin="echo", settings={"model": "two"}),
}
ROUTES = {"gpt-4o-mini": ("first", "second"), "gpt-4o": ("second",)}
SECOND = structs.replace(ANONYMOUS, id="k", models=frozenset({"two"}))


@pytest.fixture
async def hosting():
    async with Hosting(ENGINES, 5.0) as running:
        await running.settled.wait()
        yield running


@pytest.fixture
def routing(hosting):
    return Router(hosting, CurrentConfig(Snapshot.of(Config(engines=ENGINES, routes=ROUTES))))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (None, "one"),
        ("one", "one"),
        ("someone/one", "one"),
        ("first", "one"),
        ("two", "two"),
        ("gpt-4o-mini", "one"),
        ("gpt-4o", "two"),
    ],
)
def test_a_model_has_many_names(routing, name, model):
    assert routing.find_ready(name, ANONYMOUS)[1].name == model
    assert routing.name(name) == model
    if name is not None:
        assert routing.find_any(name, ANONYMOUS)[1].name == model


async def test_a_route_goes_on_to_the_next_engine_while_the_first_cannot_serve(hosting, routing):
    await hosting.unload("one")
    assert routing.find_ready("gpt-4o-mini", ANONYMOUS)[0].name == "second"
    await hosting.unload("two")
    with pytest.raises(Unavailable):
        routing.find_ready("gpt-4o-mini", ANONYMOUS)
    await hosting.load("one")
    assert routing.find_ready("gpt-4o-mini", ANONYMOUS)[0].name == "first"


def test_a_key_is_routed_to_what_it_may_use(routing):
    assert routing.find_ready("gpt-4o-mini", SECOND)[1].name == "two"
    assert routing.find_ready(None, SECOND)[1].name == "two"
    other = structs.replace(SECOND, models=frozenset({"one"}))
    with pytest.raises(UnknownModel, match=r"'gpt-4o' for this key; there is 'one', 'gpt-4o-mini'$"):
        routing.find_ready("gpt-4o", other)
    with pytest.raises(UnknownModel):
        routing.find_any("gpt-4o", other)


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("one", {"one"}),
        ("someone/one", {"one"}),
        ("first", {"one"}),
        ("second", {"two"}),
        ("gpt-4o-mini", {"one", "two"}),
        ("gpt-4o", {"two"}),
        ("someone", set()),
        ("none", set()),
    ],
)
def test_a_key_may_use_what_its_name_means_whichever_name_that_is(routing, name, models):
    caller = structs.replace(SECOND, models=frozenset({name}))
    assert {target.card.name for target in routing.targets(caller)} == models
    if models:
        assert routing.find_ready(name, caller) == routing.find_ready(name, ANONYMOUS)
        assert routing.find_any(name, caller) == routing.find_any(name, ANONYMOUS)
        assert routing.find_ready(None, caller).card.name in models
    for other in {"one", "two"} - models:
        with pytest.raises(UnknownModel, match="for this key"):
            routing.find_ready(other, caller)


async def test_a_key_for_a_route_goes_on_to_its_next_engine(hosting, routing):
    caller = structs.replace(SECOND, models=frozenset({"gpt-4o-mini"}))
    await hosting.unload("one")
    assert routing.find_ready("gpt-4o-mini", caller).card.name == "two"


def test_an_unknown_name_is_answered_with_those_that_there_are(routing):
    with pytest.raises(UnknownModel, match=r"'none'; there is 'one', 'two', 'gpt-4o-mini', 'gpt-4o'$"):
        routing.find_ready("none", ANONYMOUS)
    assert routing.aliases(routing.find_ready("two", ANONYMOUS)[0]) == ("gpt-4o-mini", "gpt-4o")


@pytest.mark.parametrize("routes", ['"a" = ["nobody"]', '"a" = []', '"a" = "default"'])
def test_a_route_to_nowhere_is_refused(tmp_path, routes):
    file = tmp_path / "gateway.toml"
    file.write_text(f'[engines.default]\nplugin = "echo"\n[routes]\n{routes}\n')
    with pytest.raises(ConfigError, match=r"routes"):
        read(str(file))


SLEEPY = {name: structs.replace(settings, load="demand") for name, settings in ENGINES.items()}


@pytest.fixture
async def asleep():
    async with Hosting(SLEEPY, 5.0) as running:
        await running.settled.wait()
        yield running


def routed(hosting, **routes):
    return Router(hosting, CurrentConfig(Snapshot.of(Config(engines=SLEEPY, routes=routes or ROUTES))))


async def test_of_a_route_the_loaded_engine_answers_while_the_first_is_wished_for(asleep):
    routing = routed(asleep)
    with pytest.raises(NotLoaded) as raised:
        routing.find_ready("gpt-4o-mini", ANONYMOUS)
    assert raised.value.hosted.name == "first"
    await asleep.load("second")
    found = routing.find_ready("gpt-4o-mini", ANONYMOUS)
    assert (found.hosted.name, found.route.wished.name, found.route.skipped) == (
        "second",
        "first",
        "engine_unavailable",
    )
    await asleep.load("first")
    assert routing.find_ready("gpt-4o-mini", ANONYMOUS).route.wished is None


async def test_a_key_loads_nothing_that_it_may_not_use(asleep):
    routing = routed(asleep)
    for name in ("one", "someone/one", "first"):
        with pytest.raises(UnknownModel):
            routing.find_ready(name, SECOND)
    with pytest.raises(NotLoaded) as raised:
        routing.find_ready(None, SECOND)
    assert raised.value.hosted.name == "second"
    assert [target.card.name for target in routing.targets(SECOND)] == ["two"]
