"""Hosted engines are found by their names, whether anything of them is loaded or not; no engine is needed for it."""

import pytest

from gateway.config import EngineSettings
from gateway.engine import Health, LoadFailed, ModelCard, Status, Unavailable, UnknownModel
from gateway.hosting.directory import Directory
from gateway.hosting.hosted import HostedEngine
from gateway.testing.scripted import ScriptedEngine, Settings


def card(name, *aliases):
    return ModelCard(name=name, aliases=aliases, context_window=8, capabilities=frozenset())


def hosted(name, *cards, health=Health.READY, detail=""):
    found = HostedEngine.of(name, EngineSettings(plugin="echo"), start=None)
    found.cards, found.health, found.detail = cards, health, detail
    return found


@pytest.fixture
def directory():
    first = hosted("a", card("one", "org/one"), card("uno"))
    return Directory([first, hosted("b", card("two"), health=Health.UNLOADED, detail="it was unloaded")])


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "one"), ("one", "one"), ("org/one", "one"), ("uno", "uno"), ("a", "one")]
)
def test_a_ready_model_is_found_by_any_of_its_names(directory, name, expected):
    found, model = directory.find(name)
    assert (found.name, model.name) == ("a", expected)


def test_a_model_that_is_not_ready_is_named_and_not_served(directory):
    assert directory.name_of("two") == "two"
    assert directory.named("b") is directory.named("two") is directory.engines[1]
    with pytest.raises(Unavailable, match="it was unloaded"):
        directory.find("two")


def test_an_unknown_name_is_refused_with_the_names_that_there_are(directory):
    assert directory.name_of("none") == ""
    for find, param in ((directory.find, "model"), (directory.named, "name")):
        with pytest.raises(UnknownModel, match=r"'none'; there is 'one', 'uno', 'two'$") as raised:
            find("none")
        assert raised.value.param == param


def test_while_an_engine_loads_no_name_is_unknown(directory):
    directory.engines[1].health = Health.STARTING
    for find in (directory.find, directory.named):
        with pytest.raises(Unavailable):
            find("none")


def test_the_health_is_that_of_the_best_engine_once_all_have_settled(directory):
    assert directory.health is Health.READY
    assert directory.up() == {"a": True, "b": False}
    assert directory.loaded() == [("echo", directory.engines[0].cards[0]), ("echo", directory.engines[0].cards[1])]
    directory.engines[1].health = Health.STARTING
    assert directory.health is Health.STARTING
    for engine in directory.engines:
        engine.health = Health.UNLOADED
    assert directory.health is Health.UNLOADED


def test_an_engine_may_serve_no_name_that_another_serves(directory):
    directory.check_cards(directory.engines[0], directory.engines[0].cards)
    with pytest.raises(LoadFailed, match="'a' serves the name 'uno' already"):
        directory.check_cards(directory.engines[1], (card("three"), card("uno")))
    with pytest.raises(LoadFailed, match="no model"):
        directory.check_cards(directory.engines[1], ())


async def test_what_an_engine_said_of_its_cache_is_shown_until_it_says_nothing_or_is_gone(directory):
    engine = directory.engines[0]
    assert directory.cache_used() == {}
    engine.engine = ScriptedEngine(Settings())
    engine.update(Status(health=Health.READY, cache_used=48))
    assert directory.cache_used() == {("a",): 48}
    engine.update(None)
    assert directory.cache_used() == {("a",): 0}
    engine.update(Status(health=Health.READY, cache_used=48))
    await engine.leave()
    assert (directory.cache_used(), engine.cache_used) == ({}, 0)


async def test_what_an_engine_said_of_preemptions_stays_while_it_is_silent(directory):
    engine = directory.engines[0]
    engine.update(Status(health=Health.READY))
    assert directory.preemptions() == {}
    engine.update(Status(health=Health.READY, preemptions=2))
    engine.update(None)
    assert directory.preemptions() == {("a",): 2}


def test_only_a_loaded_model_with_a_cache_has_a_size():
    sized = ModelCard(name="one", context_window=8, capabilities=frozenset(), cache_tokens=96)
    both = Directory([hosted("a", sized), hosted("b", card("two")), hosted("c", sized, health=Health.UNLOADED)])
    assert both.cache_sizes() == {("one",): 96}


def test_an_engine_without_a_process_has_no_memory_and_no_time_of_its_own(directory):
    directory.engines[0].engine = object()
    assert directory.memory() == {}
    assert directory.cpu_seconds() == {}


def test_the_room_of_a_model_is_not_counted_again_for_its_adapters():
    sized = ModelCard(name="one", context_window=8, capabilities=frozenset(), cache_tokens=96)
    own = ModelCard(name="sql", context_window=8, capabilities=frozenset(), cache_tokens=96, parent="one")
    assert Directory([hosted("a", sized, own)]).cache_sizes() == {("one",): 96}


async def test_the_drift_of_a_model_is_known_while_it_is_loaded(directory):
    engine = directory.engines[0]
    assert directory.drifts() == {}
    engine.engine = ScriptedEngine(Settings())
    engine.update(Status(health=Health.READY, drift=0.25))
    engine.update(Status(health=Health.READY, drift=0.125))
    assert directory.drifts() == {(engine.cards[0].name,): 0.125}
    await engine.leave()
    assert directory.drifts() == {}
