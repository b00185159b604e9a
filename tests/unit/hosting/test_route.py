"""The engines behind a route: who is chosen, and when the next one is tried."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission
from gateway.config import Config, EngineSettings, RouteSettings
from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineError,
    EngineRestarted,
    GenerateRequest,
    Grammar,
    Health,
    InvalidRequest,
    LoadFailed,
    Message,
    ModelCard,
    Overloaded,
    Quarantined,
    Text,
    Tokens,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    negotiate,
)
from gateway.hosting.hosted import HostedEngine
from gateway.hosting.route import Load, RetryBudget, Route, Target, TooSlow, falls_back

NAMES = ("a", "b", "c", "d")
IDLE = Load(0.0, 0.0)


def card_of(name, context_window=100, capabilities=frozenset(), **fields):
    return ModelCard(name=name, context_window=context_window, capabilities=capabilities, **fields)


def target(name, **fields):
    card = card_of(f"model-{name}", **fields)
    hosted = HostedEngine(name=name, config=EngineSettings(plugin="echo"), build=lambda: None, health=Health.READY)
    return Target(hosted, card)


def a_route(strategy="ordered", targets=None, **settings):
    return Route(RouteSettings(engines=NAMES, strategy=strategy, **settings), tuple(targets or map(target, NAMES)))


def ask(prompt="once upon a time", **fields):
    prompt = Completion(prompt) if isinstance(prompt, str) else prompt
    return GenerateRequest(id="r", model="big", prompt=prompt, **fields)


def chosen(found, load=lambda _: IDLE, asked=None):
    return [each.hosted.name for each in found.choose(asked or ask(), load).route.targets]


def conversation(*said):
    roles = ("system", "user", "assistant", "user", "assistant")
    return Chat(tuple(Message(role, (Text(text),)) for role, text in zip(roles, said, strict=False)))


@pytest.fixture(autouse=True)
def _all_can(monkeypatch):
    """Have every card do everything, but those whose test says otherwise."""
    monkeypatch.setattr("gateway.hosting.route.negotiate", lambda request, card: None)


def test_in_order_the_first_is_chosen():
    assert chosen(a_route()) == list(NAMES)


def test_the_least_loaded_is_chosen_and_the_others_follow():
    loads = {"model-a": Load(2, 9), "model-b": Load(0, 0.5), "model-c": Load(0, 0.25), "model-d": Load(1, 1)}
    assert chosen(a_route("least_loaded"), lambda card: loads[card.name]) == ["c", "b", "d", "a"]


def test_weights_decide_how_often_one_is_chosen():
    found = a_route("weighted", weights={"a": 6, "b": 3})
    counted = Counter(chosen(found)[0] for _ in range(4_400))
    assert counted["a"] / 4_400 == pytest.approx(6 / 11, abs=0.06)
    assert counted["b"] / 4_400 == pytest.approx(3 / 11, abs=0.06)
    assert counted["c"] / 4_400 == pytest.approx(1 / 11, abs=0.04)


def test_what_begins_alike_meets_the_same_engine():
    found = a_route("prefix")
    first = conversation("Be brief.", "Who are you?")
    later = conversation("Be brief.", "Who are you?", "A model.", "Of what?")
    assert chosen(found, asked=ask(first)) == chosen(found, asked=ask(later))
    homes = {chosen(found, asked=ask(conversation("Be brief.", f"Question {n}")))[0] for n in range(60)}
    assert homes == set(NAMES)
    assert {chosen(found, asked=ask(Tokens((n, 1, 2))))[0] for n in range(60)} == set(NAMES)
    assert {chosen(found, asked=ask(f"Story {n}"))[0] for n in range(60)} == set(NAMES)


def test_an_engine_that_is_gone_moves_only_its_own_prompts():
    asked = [ask(f"Story {n}") for n in range(60)]
    whole, rest = a_route("prefix"), a_route("prefix", [target(name) for name in NAMES if name != "b"])
    for each in asked:
        before = chosen(whole, asked=each)[0]
        assert before == "b" or chosen(rest, asked=each)[0] == before


def test_a_favourite_that_is_twice_as_full_comes_last():
    found = a_route("prefix")
    favourite = chosen(found)[0]
    loads = {f"model-{name}": Load(0, 1.2) for name in NAMES}
    assert chosen(found, lambda card: loads[card.name])[0] == favourite
    loads[f"model-{favourite}"] = Load(0, 2.5)
    assert chosen(found, lambda card: loads[card.name])[-1] == favourite
    loads = {f"model-{name}": IDLE for name in NAMES} | {f"model-{favourite}": Load(0, 0.9)}
    assert chosen(found, lambda card: loads[card.name])[0] == favourite  # it has a place left
    loads[f"model-{favourite}"] = Load(0, 1.0)
    assert chosen(found, lambda card: loads[card.name])[-1] == favourite  # it would have the request wait
    loads = {f"model-{name}": Load(0, 0.6) for name in NAMES} | {f"model-{favourite}": Load(0, 1.0)}
    assert chosen(found, lambda card: loads[card.name])[0] == favourite


def test_without_fallback_there_is_one():
    assert chosen(a_route(fallback=False)) == ["a"]


def test_an_engine_that_is_being_replaced_comes_last():
    found = a_route()
    found.targets[0].hosted.is_replaced = True
    assert chosen(found) == ["b", "c", "d", "a"]
    assert found.choose(ask(), lambda _: IDLE).route.skipped == "engine_unavailable"
    for each in found.targets:
        each.hosted.is_replaced = True
    assert chosen(found) == list(NAMES)
    assert found.choose(ask(), lambda _: IDLE).route.skipped == ""


def test_an_engine_that_is_left_alone_comes_last():
    found, alone = a_route(), {"model-b"}
    chosen_now = found.choose(ask(), lambda _: IDLE, lambda card: card.name not in alone)
    assert [each.hosted.name for each in chosen_now.route.targets] == ["a", "c", "d", "b"]
    assert chosen_now.route.skipped == ""  # the first choice is there
    alone.add("model-a")
    chosen_now = found.choose(ask(), lambda _: IDLE, lambda card: card.name not in alone)
    assert [each.hosted.name for each in chosen_now.route.targets] == ["c", "d", "a", "b"]
    assert chosen_now.route.skipped == "engine_unavailable"


def test_an_engine_that_cannot_do_what_is_asked_is_left_out(monkeypatch):
    monkeypatch.setattr("gateway.hosting.route.negotiate", negotiate)
    able = frozenset({"text", "grammar"})
    targets = [target("a", capabilities=frozenset({"text"})), target("b", capabilities=able), target("c")]
    asked = ask(constraint=Grammar('start: "a"'))
    with pytest.raises(Unsupported):
        negotiate(asked, targets[0].card)
    assert chosen(a_route(targets=targets[:1]), asked=asked) == ["a"]  # whose error says what is missing


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (Overloaded("full"), True),
        (Unavailable("away"), True),
        (EngineRestarted("died"), True),
        (UpstreamFailed("garbage"), True),
        (TooSlow("slow"), True),
        (EngineError("failed"), True),
        (Draining("over"), False),
        (DeadlineExceeded("late"), False),
        (Quarantined("twice"), False),
        (LoadFailed("never"), False),
        (InvalidRequest("wrong"), False),
        (Unsupported("unable"), False),
        (ContextTooLong("long"), False),
    ],
)
def test_the_next_is_tried_for_what_is_the_fault_of_the_first(error, wanted):
    assert falls_back(error, target("a").card, target("b").card, RetryBudget()) is wanted


def test_a_prompt_that_is_too_long_goes_on_to_a_larger_model():
    small, large = target("a").card, card_of("large", 101)
    assert falls_back(ContextTooLong("long"), small, large, RetryBudget())
    assert not falls_back(ContextTooLong("long"), large, small, RetryBudget())


def test_retries_are_at_most_a_tenth_of_the_requests():
    budget, failed, other = RetryBudget(), target("a").card, target("b").card
    tried = 0
    for _ in range(1_000):
        budget.earn()
        tried += falls_back(UpstreamFailed("away"), failed, other, budget)
    assert 100 <= tried <= 111
    assert falls_back(Overloaded("full"), failed, other, budget)  # which costs the engines nothing


@given(st.lists(st.booleans(), max_size=2_000))
def test_retries_are_at_most_a_tenth_whatever_fails_when(failures):
    """In any order of requests and failures; the first ten retries are free, so that a quiet service has some."""
    budget, retries = RetryBudget(), 0
    for requests, fails in enumerate(failures, 1):
        budget.earn()
        if fails:
            retries += budget.spend()
        assert retries <= 10 + requests / 10 + 1e-6


def test_a_try_that_took_too_long_has_its_retry_paid_already():
    budget = RetryBudget()
    while budget.spend():
        pass
    assert falls_back(TooSlow("slow"), target("a").card, target("b").card, budget)


def test_a_queue_tells_how_full_it_is():
    card = card_of("m", places=4)
    assert Load(*Admission().queue(card).load) == IDLE


def test_a_list_of_engines_is_a_route_in_order():
    found = Config(routes={"big": ("a", "b"), "best": RouteSettings(engines=("b",), strategy="prefix")})
    assert found.route("big") == RouteSettings(engines=("a", "b"))
    assert found.route("best").strategy == "prefix"
    assert found.route("none") is None


@pytest.mark.parametrize(("strategy", "wished"), [("ordered", "a"), ("weighted", "a"), ("least_loaded", None)])
def test_an_engine_that_is_not_loaded_comes_last_and_is_wished_for_where_it_was_put_first(strategy, wished):
    first, second = target("a"), target("b")
    first.hosted.health, first.hosted.is_on_call = Health.UNLOADED, True
    route = (
        a_route(strategy, [first, second], weights={"a": 1_000_000.0, "b": 1e-9}).choose(ask(), lambda _: IDLE).route
    )
    assert [each.hosted.name for each in route.targets] == ["b", "a"]
    assert (route.wished.name if route.wished else None) == wished
