"""Requests, loads, failures, reloads and unloads at random: nothing is lost, nothing goes under a request, all end."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config import ModelsSettings
from gateway.engine import Health, LoadFailed, Plugin, Unavailable
from tests.unit.hosting.test_loads import PATIENCE, Obedient, Settings, Use, demand, hosting, named

SIZES = {"a": 1, "b": 2, "c": 3, "d": 4}
NAMES = st.sampled_from(sorted(SIZES))


class Life(RuleBasedStateMachine):
    """A real `Hosting` on an event loop of its own, whose engines load when they are let, or fail."""

    def __init__(self):
        super().__init__()
        Obedient.inside, Obedient.failing, Obedient.gates = set(), set(), {}
        self.patch = pytest.MonkeyPatch()
        made = Plugin(Settings, Obedient, estimate=lambda own: own.size)
        for module in ("hosting.hosted", "supervisor.specs"):
            self.patch.setattr(f"gateway.{module}.load", lambda _: made)
        self.runner = asyncio.Runner()
        self.uses, self.changes = [], []

    def run(self, work):
        return self.runner.run(work)

    @initialize(budget=st.sampled_from([None, 4, 5, 7]), most=st.sampled_from([None, 1, 2]), pinned=st.booleans())
    def begin(self, budget, most, pinned):
        self.bounds = budget, most
        engines = [
            demand(name, size, pinned=pinned and name == "a", load="start" if name == "b" else "demand")
            for name, size in SIZES.items()
        ]
        self.engines = {engine.settings["model"]: engine for engine in engines}
        self.found = hosting(*engines, memory_budget=budget, max_loaded=most)
        self.run(self.found.__aenter__())

    @rule(name=NAMES)
    def ask(self, name):
        async def start():
            self.uses.append(Use(self.found, name))
            await asyncio.sleep(0)

        self.run(start())

    @precondition(lambda self: self.uses)
    @rule(data=st.data(), leaves=st.booleans())
    def finish(self, data, leaves):
        use = self.uses[data.draw(st.integers(0, len(self.uses) - 1))]
        use.go.set()
        if leaves:
            use.task.cancel()
        self.run(asyncio.sleep(0))

    @rule(name=NAMES, fails=st.booleans())
    def let_fail(self, name, fails):
        (Obedient.failing.add if fails else Obedient.failing.discard)(name)

    @rule(name=NAMES, is_open=st.booleans())
    def turn_gate(self, name, is_open):
        gate = Obedient.gates.setdefault(name, asyncio.Event())
        gate.set() if is_open else gate.clear()

    @rule(name=NAMES, loads=st.booleans())
    def change_by_hand(self, name, loads):
        async def start():
            change = (self.found.load if loads else self.found.unload)(name)
            self.changes.append(asyncio.ensure_future(change))
            await asyncio.sleep(0)

        self.run(start())

    @rule(name=NAMES, pinned=st.booleans())
    def reload(self, name, pinned):
        """A pinned engine is loaded already where it fits at all, so that what is asked for can always fit."""
        self.engines[name] = demand(name, SIZES[name], pinned=pinned and name == "a")
        self.run(
            self.found.reload(self.engines, ModelsSettings(memory_budget=self.bounds[0], max_loaded=self.bounds[1]))
        )

    @rule(name=NAMES)
    def break_down(self, name):
        async def look():
            engine = named(self.found, name).engine
            if engine is not None and named(self.found, name).health is Health.READY:
                engine.health = Health.FAILED
                await self.found.ask_all()

        self.run(look())

    @rule(turns=st.integers(1, 30))
    def pass_time(self, turns):
        async def turn():
            for _ in range(turns):
                await asyncio.sleep(0)

        for hosted in self.found.engines:
            hosted.resident.retry_at = 0.0
        self.run(turn())

    @invariant()
    def no_bound_is_exceeded(self):
        budget, most = getattr(self, "bounds", (None, None))
        assert most is None or len(Obedient.inside) <= most
        assert budget is None or sum(SIZES[name] for name in Obedient.inside) <= budget

    def teardown(self):
        try:
            if hasattr(self, "found"):
                self.run(self.settle())
        finally:
            self.runner.close()
            self.patch.undo()

    async def settle(self):
        """Let everything go on: each request ends, with its engine or with a reason."""
        Obedient.failing.clear()
        for gate in Obedient.gates.values():
            gate.set()
        for use in self.uses:
            use.go.set()
        async with asyncio.timeout(PATIENCE):
            for use in self.uses:
                await asyncio.wait({use.task})
                error = None if use.task.cancelled() else use.task.exception()
                assert error is None or isinstance(error, Unavailable), error
            for change in self.changes:
                await asyncio.wait({change})
                error = change.exception()
                assert error is None or isinstance(error, LoadFailed), error
        assert all(not hosted.resident.leases and not hosted.resident.claims for hosted in self.found.engines)
        self.no_bound_is_exceeded()
        await self.found.__aexit__()
        assert Obedient.inside == set()


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_nothing_is_lost_and_nothing_goes_under_a_request = Life.TestCase
