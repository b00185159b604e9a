"""What is in memory: what makes room, what waits, and that nothing is lost, whatever comes in whatever order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.hosting.residency import Residency
from gateway.hosting.resident import Bounds, Resident, Stage, Verdict


class Room:
    """Carries out at once what is decided, but for loads and unloads, which end when they are told to."""

    def __init__(self, memory=None, models=None, **residents):
        self.residency = Residency(Bounds(memory, models))
        self.now = 0.0
        self.refused = []
        self.order = []
        for name, own in residents.items():
            resident = Resident(name=name, **own)
            self.residency.residents.append(resident)
            setattr(self, name, resident)

    def ask(self, resident):
        if self.residency.take(resident):
            return "taken"
        claim = self.residency.claim(resident)
        self.residency.wish(resident)
        self.step()
        return claim

    def step(self):
        for decision in self.residency.step(self.now):
            self.order.append((decision.verdict, decision.resident.name))
            if decision.verdict is Verdict.REFUSE:
                self.refused.append((decision.resident.name, decision.why))
        return self.order

    def loaded(self, resident, size=None):
        self.residency.loaded(resident, self.now, size)
        self.step()

    def left(self, resident):
        self.residency.left(resident)
        self.step()

    def give(self, resident):
        self.residency.give(resident, self.now)
        self.step()

    def load(self, *residents):
        """Load, use and free models one after the other."""
        for resident in residents:
            self.ask(resident)
            self.loaded(resident)
            self.now += 1
            self.give(resident)
        self.order.clear()


def room(memory=None, models=None, *, sizes=(1, 1, 1)):
    return Room(memory, models, **{name: {"size": size} for name, size in zip("abc", sizes, strict=True)})


def test_two_requests_for_one_model_load_it_once():
    own = room()
    claims = [own.ask(own.a), own.ask(own.a)]
    assert own.order == [(Verdict.LOAD, "a")]
    assert not any(claim.is_held for claim in claims)
    own.loaded(own.a)
    assert all(claim.is_held for claim in claims)
    assert (own.a.leases, own.a.claims) == (2, [])


def test_without_bounds_everything_is_loaded_side_by_side():
    own = room()
    for each in (own.a, own.b, own.c):
        own.ask(each)
    assert [order for order, _ in own.order] == [Verdict.LOAD] * 3


@pytest.mark.parametrize("bounds", [{"models": 2}, {"memory": 2}])
def test_the_least_recently_used_makes_room(bounds):
    own = room(**bounds)
    own.load(own.a, own.b)
    own.now += 1
    assert own.ask(own.a) == "taken"
    own.now += 1
    own.give(own.a)
    own.order.clear()
    own.ask(own.c)
    assert own.order == [(Verdict.EVICT, "b")]
    own.left(own.b)
    assert own.order[1:] == [(Verdict.LOAD, "c")]


def test_no_more_is_unloaded_than_is_needed():
    own = room(memory=10, sizes=(1, 6, 6))
    own.load(own.a, own.b)
    own.ask(own.c)
    assert own.order == [(Verdict.EVICT, "b")]


def test_nothing_is_unloaded_for_nothing():
    """The idle one alone would not make room: it stays until the busy one can go, too."""
    own = room(memory=10, sizes=(4, 6, 10))
    own.load(own.a, own.b)
    assert own.ask(own.b) == "taken"
    own.ask(own.c)
    assert own.order == []
    own.give(own.b)
    assert sorted(own.order) == [(Verdict.EVICT, "a"), (Verdict.EVICT, "b")]


def test_a_busy_model_is_not_unloaded_and_makes_way_when_its_turn_is_over():
    own = room(models=1)
    own.ask(own.a)
    own.now = 5.0
    own.loaded(own.a)
    claim = own.ask(own.b)
    own.now = 9.0
    own.step()
    assert own.ask(own.a) == "taken"  # it took five seconds to load, and serves for five at least
    assert own.residency.next_look(own.now) == 10.0
    own.now = 10.0
    own.step()
    waits = own.ask(own.a)
    assert not waits.is_held
    assert (Verdict.EVICT, "a") not in own.order
    own.give(own.a)
    own.give(own.a)
    assert own.order[-1] == (Verdict.EVICT, "a")
    own.left(own.a)
    assert own.order[-1] == (Verdict.LOAD, "b")
    own.loaded(own.b)
    assert claim.is_held
    own.residency.end(claim, own.now)
    own.step()
    own.left(own.b)
    own.loaded(own.a)
    assert waits.is_held


def test_who_waits_while_it_makes_way_is_let_in_where_that_is_not_needed_any_more():
    own = room(models=1)
    own.ask(own.a)
    own.loaded(own.a)
    wanted = own.ask(own.b)
    own.step()
    waits = own.ask(own.a)
    assert not waits.is_held
    own.residency.end(wanted, own.now)
    own.step()
    assert waits.is_held
    assert own.a.leases == 2


def test_a_pinned_model_stays():
    own = Room(models=1, a={"is_pinned": True, "idle_seconds": 1.0}, b={})
    own.load(own.a)
    own.now += 100
    own.ask(own.b)
    assert own.order == [(Verdict.REFUSE, "b")]
    assert own.refused == [("b", "1 pinned models are loaded, and models.max_loaded is 1")]


def test_what_can_never_fit_is_refused_before_it_begins():
    own = room(memory=10, sizes=(11, 4, 7))
    own.ask(own.a)
    assert own.refused == [("a", "it would take about 11 bytes, and models.memory_budget is 10")]
    own.b.is_pinned = True
    own.load(own.b)
    own.ask(own.c)
    assert own.refused[1:] == [
        ("c", "it would take about 7 bytes, and models.memory_budget is 10, 4 of which pinned models take")
    ]
    assert own.c.stage is Stage.UNLOADED


def test_a_size_that_is_not_known_counts_for_nothing_until_it_was_measured():
    own = Room(memory=10, a={"size": None}, b={"size": 8})
    own.load(own.b)
    own.ask(own.a)
    assert own.order == [(Verdict.LOAD, "a")]
    own.loaded(own.a, 4)
    assert own.a.size == 4
    assert own.order[-1] == (Verdict.EVICT, "b")


def test_an_idle_model_goes_after_its_time_and_a_used_one_begins_anew():
    own = Room(a={"idle_seconds": 10.0})
    own.load(own.a)
    assert own.residency.next_look(own.now) == own.a.last_used + 10
    own.now += 9
    assert own.ask(own.a) == "taken"
    own.now += 100
    assert own.step() == []
    own.give(own.a)
    own.now += 9.9
    assert own.step() == []
    own.now += 0.1
    assert own.step() == [(Verdict.EXPIRE, "a")]


def test_a_request_for_a_model_that_leaves_has_it_loaded_again():
    own = room(models=1)
    own.load(own.a)
    own.ask(own.b)
    claim = own.ask(own.a)
    assert own.order == [(Verdict.EVICT, "a")]
    own.left(own.a)
    assert own.order[1:] == [(Verdict.LOAD, "b")]
    own.loaded(own.b)
    own.give(own.b)
    own.left(own.b)
    own.loaded(own.a)
    assert claim.is_held


def test_a_load_that_nobody_waits_for_is_not_begun():
    own = room(models=1)
    own.ask(own.a)
    claim = own.ask(own.b)
    own.residency.end(claim, own.now)
    own.loaded(own.a)
    own.give(own.a)
    assert [name for _, name in own.order] == ["a", "a"]


def test_a_load_under_way_goes_on_when_its_client_leaves():
    own = room()
    first, second = own.ask(own.a), own.ask(own.a)
    own.residency.end(first, own.now)
    own.loaded(own.a)
    assert (first.is_held, second.is_held, own.a.leases) == (False, True, 1)


def test_a_failed_load_refuses_all_that_wait_and_pauses_longer_each_time():
    own = room()
    pauses = []
    for _ in range(8):
        own.ask(own.a)
        refused = own.residency.failed(own.a, own.now, "no such file")
        assert (len(refused.claims), refused.why) == (1, "no such file")
        pauses.append(own.a.retry_at - own.now)
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == 300
    own.ask(own.a)
    own.loaded(own.a)
    assert own.a.failures == 0


def test_a_lowered_bound_unloads_what_is_idle():
    own = room()
    own.load(own.a, own.b, own.c)
    own.residency.bounds = Bounds(models=2)
    assert own.step() == [(Verdict.EVICT, "a")]


SIZES = {"a": 1, "b": 2, "c": 3, "d": 4}


class Life(RuleBasedStateMachine):
    """Requests come and go, loads end or fail, models are unloaded by hand, idle or for room; time passes."""

    @initialize(memory=st.sampled_from([None, 4, 5, 7]), models=st.sampled_from([None, 1, 2]), pinned=st.booleans())
    def begin(self, memory, models, pinned):
        self.now = 0.0
        self.residency = Residency(Bounds(memory, models))
        self.models = {name: Resident(name=name, size=size, idle_seconds=20.0) for name, size in SIZES.items()}
        self.models["a"].is_pinned = pinned
        self.residency.residents += self.models.values()
        self.waiting, self.held, self.refused = [], [], []
        self.over = []

    def step(self):
        before = {name: model.leases for name, model in self.models.items()}
        for order, resident, claims, _ in self.residency.step(self.now):
            if order in (Verdict.EVICT, Verdict.EXPIRE):
                assert before[resident.name] == 0, "a busy model was unloaded"
                assert resident.leases == 0
                assert not resident.is_pinned
            if order is Verdict.REFUSE:
                assert self.residency.misfit(resident)
                self.refused += claims
        self.sort()

    def sort(self):
        over = [claim for claim in self.waiting if claim.is_held or claim in self.refused]
        self.held += [claim for claim in over if claim.is_held]
        self.waiting = [claim for claim in self.waiting if claim not in over]

    @rule(name=st.sampled_from(sorted(SIZES)))
    def ask(self, name):
        model = self.models[name]
        if self.residency.take(model):
            claim = self.residency.claim(model)
            model.claims.remove(claim)
            claim.is_held = True
            self.held.append(claim)
            return
        self.waiting.append(self.residency.claim(model))
        self.residency.wish(model)
        self.step()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data):
        claim = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.residency.end(claim, self.now)
        self.step()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data):
        claim = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.residency.end(claim, self.now)
        self.step()

    @rule(name=st.sampled_from(sorted(SIZES)), fails=st.booleans())
    def end_load(self, name, fails):
        model = self.models[name]
        if model.stage is Stage.LOADING and fails:
            self.refused += self.residency.failed(model, self.now, "it fails").claims
        elif model.stage is Stage.LOADING:
            self.residency.loaded(model, self.now)
        self.step()

    @rule(name=st.sampled_from(sorted(SIZES)))
    def end_unload(self, name):
        model = self.models[name]
        if model.stage is Stage.LEAVING and not model.leases:
            self.residency.left(model)
            self.step()

    @rule(name=st.sampled_from(sorted(SIZES)))
    def unload_by_hand(self, name):
        if self.models[name].stage is Stage.LOADED:
            self.residency.leave(self.models[name])
            self.step()

    @rule(name=st.sampled_from(sorted(SIZES)))
    def wish(self, name):
        self.residency.wish(self.models[name])
        self.step()

    @rule(seconds=st.floats(0.0, 30.0))
    def pass_time(self, seconds):
        self.now += seconds
        self.step()

    @invariant()
    def no_bound_is_exceeded(self):
        present = [model for model in self.models.values() if model.stage is not Stage.UNLOADED]
        assert self.residency.bounds.allow(sum(model.size for model in present), len(present))

    @invariant()
    def no_request_is_lost(self):
        for model in self.models.values():
            own = [claim for claim in self.held if claim.resident is model]
            assert model.leases == len(own)
            assert {*model.claims} == {claim for claim in self.waiting if claim.resident is model}
            if own:
                assert model.stage in (Stage.LOADED, Stage.LEAVING)

    def teardown(self):
        """Whatever happened: once answers end and loads succeed, every request that waits gets its model."""
        for _ in range(100):
            if not self.waiting:
                break
            for model in self.models.values():
                if model.stage is Stage.LOADING:
                    self.residency.loaded(model, self.now)
                    self.step()
            for claim in self.held:
                self.residency.end(claim, self.now)
            self.held = []
            self.now += 60.0
            self.step()
            for model in self.models.values():
                if model.stage is Stage.LEAVING and not model.leases:
                    self.residency.left(model)
            self.step()
        assert not self.waiting, "requests wait for ever"


Life.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
test_nothing_is_lost_nothing_busy_is_unloaded_and_nothing_waits_for_ever = Life.TestCase
