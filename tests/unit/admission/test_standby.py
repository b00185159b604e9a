"""Work that stands by costs no request its place, and gives way to the first that comes."""

import asyncio

import pytest

from gateway.admission import Admission, NoRoom, Standby, WaitLimits
from gateway.engine import (
    Capability,
    Completion,
    GenerateRequest,
    ModelCard,
    Overloaded,
    Sampling,
    Started,
    Tokens,
)
from tests.support.clock import Clock
from tests.unit.admission.conftest import settle_down


class Line:
    """A line of a batch: holds its place until it is told to give way, or is let go."""

    def __init__(self, house, **limits):
        self.told = 0
        self.work = Standby(give_way=self.give_way, **limits)
        self.permit = house.permit(standby=self.work)
        self.let_go = asyncio.Event()

    def give_way(self):
        self.told += 1
        self.task.cancel()

    def begin(self):
        self.task = asyncio.create_task(self.hold())
        return self

    async def hold(self):
        async with self.permit:
            await self.let_go.wait()


@pytest.fixture
async def lines():
    begun = []
    yield begun
    for line in begun:
        line.task.cancel()
    await asyncio.gather(*(line.task for line in begun), return_exceptions=True)


async def begin(house, lines, count=1, **limits):
    made = [Line(house, **limits).begin() for _ in range(count)]
    lines += made
    await settle_down()
    return made


async def test_a_line_begins_where_no_request_is_and_gives_way_to_the_first(house, lines):
    first, second = await begin(house, lines, 2)
    assert house.queue.places.running == 2
    async with house.permit() as request:  # both places were taken
        assert request.is_held
        assert (first.told, second.told) == (1, 1)
        assert house.queue.places.running == 1
        with pytest.raises(NoRoom):
            await Line(house).permit.__aenter__()
    house.assert_empty()


async def test_a_request_is_not_refused_for_a_place_that_a_line_gives_back(make_house, lines):
    house = make_house(places=1)
    await house.measure(seconds=50.0)
    await begin(house, lines)
    soon = house.clock() + 1.0
    async with house.permit(first_token=soon) as request:
        assert request.is_held


async def test_lines_count_in_no_estimate_and_for_no_caller(house, lines):
    (line,) = await begin(house, lines)
    house.clock.advance(100.0)
    line.let_go.set()
    await settle_down()
    assert house.queue.estimator.service_seconds is None
    async with house.permit(), house.permit():  # no place is kept for the line, as if another caller had come
        assert house.queue.places.running == 2


async def test_a_moment_of_quiet_comes_before_the_next_line(house, lines):
    async with house.permit():
        pass
    assert not house.queue.idleness.may_begin(Line(house, quiet_seconds=1.0).work)
    with pytest.raises(NoRoom):
        await Line(house, quiet_seconds=1.0).permit.__aenter__()
    house.clock.advance(1.0)
    (line,) = await begin(house, lines, quiet_seconds=1.0)
    assert line.permit.is_held


async def test_some_lines_stay_beside_requests_that_run_but_not_while_one_waits(make_house, lines):
    house = make_house(places=3)
    first, second = await begin(house, lines, 2, beside=1)
    async with house.permit() as request:
        assert request.is_held
        assert (first.told, second.told) == (0, 1)
        await settle_down()
        async with house.permit():
            assert (first.told, house.queue.places.running) == (0, 3)
            async with house.permit() as last:  # for this one there is no place
                assert last.is_held
                assert first.told == 1


async def test_lines_wait_for_a_place_among_themselves(house, lines):
    first, _, third = await begin(house, lines, 3)
    assert not third.permit.is_held
    first.let_go.set()
    await settle_down()
    assert third.permit.is_held


async def test_a_line_that_waits_for_a_place_leaves_when_a_request_comes(house, lines):
    _, _, third = await begin(house, lines, 3)
    async with house.permit():
        await settle_down()
        with pytest.raises(NoRoom):
            await third.task
        assert third.told == 0


async def test_waiting_for_idleness_ends_with_the_last_request(house):
    request = house.permit()
    await request.__aenter__()
    work = Standby(give_way=lambda: None)
    waiting = asyncio.create_task(house.admission.wait_idle(house.card, work))
    await settle_down()
    assert not waiting.done()
    await request.__aexit__(None, None, None)
    await asyncio.wait_for(waiting, 5)


def card(name, **facts):
    return ModelCard(name=name, context_window=100, capabilities=facts.pop("capabilities", frozenset()), **facts)


def request_of(name):
    return GenerateRequest(id="1", model=name, prompt=Completion(""), sampling=Sampling(max_tokens=1))


@pytest.mark.parametrize(("device", "gives_way"), [("cpu", True), ("remote", False)])
async def test_models_share_a_device_unless_they_are_elsewhere(device, gives_way):
    admission, told = Admission(clock=Clock()), []
    one, other = card("one", device=device), card("other", device=device)
    work = Standby(give_way=lambda: told.append(1))
    line = admission.permit(request_of("one"), one, "a", WaitLimits(standby=work))
    async with line, admission.permit(request_of("other"), other, "a", WaitLimits()):
        assert told == [1] * gives_way


@pytest.mark.parametrize(("makes_vectors", "gives_way"), [(True, True), (False, False)])
async def test_of_questions_only_those_for_vectors_take_a_device(makes_vectors, gives_way):
    admission, told = Admission(clock=Clock()), []
    asked = card("m", capabilities=frozenset({Capability.EMBEDDING} if makes_vectors else ()))
    question = GenerateRequest(id="1", model="m", prompt=Tokens(()))
    work = Standby(give_way=lambda: told.append(1))
    line = admission.permit(request_of("m"), asked, "a", WaitLimits(standby=work))
    async with line, admission.ask(question, asked, "a", WaitLimits(), 1):
        assert told == [1] * gives_way


async def test_a_line_takes_no_turn_of_an_engine_that_is_left_alone(house):
    for _ in range(5):
        attempt = house.queue.breaker.attempt()
        attempt.fail()
    with pytest.raises(Exception, match="left alone") as refused:
        await Line(house).permit.__aenter__()
    assert not isinstance(refused.value, Overloaded)
    house.assert_empty()


async def test_an_engine_that_puts_work_aside_keeps_it_beside_its_own_requests(make_house, lines):
    house = make_house(places=1, capabilities=[Capability.STANDBY])
    first, second = await begin(house, lines, 2)
    assert house.queue.places.running == 0  # they take no place
    async with house.permit() as request, asyncio.TaskGroup() as group:
        assert request.is_held
        waiting = group.create_task(house.permit().__aenter__())
        await settle_down()
        assert not waiting.done()
        assert (first.told, second.told) == (0, 0)
        with pytest.raises(NoRoom):  # and none begins meanwhile
            await Line(house).permit.__aenter__()
        waiting.cancel()
    first.permit.settle(Started(1))
    assert first.permit.is_settled
    first.let_go.set()
    second.let_go.set()
    await settle_down()
    house.assert_empty()


async def test_where_some_stay_beside_requests_the_others_are_ended(make_house, lines):
    house = make_house(places=3, capabilities=[Capability.STANDBY])
    first, second = await begin(house, lines, 2, beside=1)
    assert house.queue.places.running == 2
    async with house.permit():
        assert (first.told, second.told) == (0, 1)


async def test_a_request_of_another_batch_ends_what_its_engine_does_not_put_aside():
    admission, told = Admission(clock=Clock()), []
    one, other = (card(name, capabilities=frozenset({Capability.STANDBY})) for name in ("one", "other"))
    vectors = card("vectors", capabilities=frozenset({Capability.EMBEDDING}))
    for another in (other, vectors):
        work = Standby(give_way=lambda: told.append(1))
        line = admission.permit(request_of("one"), one, "a", WaitLimits(standby=work))
        ask = admission.permit if another is other else admission.ask
        asked = {"cost": 1} if another is vectors else {}
        async with line, ask(request_of("x"), another, "a", WaitLimits(), **asked):
            pass
    assert told == [1, 1]
