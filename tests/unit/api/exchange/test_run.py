"""Several prompts and several answers on their way through an engine."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest

from gateway.api.exchange.run import Run, to_frame
from gateway.auth import ANONYMOUS
from gateway.config import Config
from gateway.engine import (
    DeadlineExceeded,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    InvalidRequest,
    Overloaded,
    Started,
    TokenLogprob,
    Usage,
)
from gateway.flow.deadline import Timeouts
from gateway.hosting.routing import Target
from gateway.inflight import Options
from tests.support.openai_dialect import ABLE, chat, prompts, rendering, text


class Inference:
    """Answers each request with its id and its seed, and fails those whose ids it is told."""

    def __init__(self, **failing):
        self.config = Config()
        self.times = []
        self.updates = []
        self.running = self.most = self.held = 0
        self.asked = []
        self.allowances = []
        self.began = asyncio.Event()
        self.failing = failing
        self.logprobs = {}

    @asynccontextmanager
    async def hold(self, caller, target, requests, answers, standby):
        self.asked.append((len(requests), answers))
        self.held += 1
        try:
            yield object()
        finally:
            self.held -= 1

    def admit(self, request, caller, target, options, allowance=None):
        self.allowances.append(allowance)
        self.times.append(options.timeouts)
        self.updates.append(options.wants_queue_updates)
        if isinstance(failure := self.failing.get(f"door{request.id}"), EngineError):
            raise failure
        return SimpleNamespace(request=request, headers={f"x-{request.id}": "seen"})

    async def generate(self, visit):
        name = visit.request.id
        self.running += 1
        self.began.set()
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if isinstance(failure := self.failing.get(f"before{name}"), EngineError):
                raise failure
            yield Started(3, 1)
            await asyncio.sleep(0)
            seed = visit.request.sampling.seed
            likely = (TokenLogprob(1, "a", self.logprobs[name]),) if name in self.logprobs else ()
            yield Delta(f"{name}/{seed}", logprobs=likely)
            if isinstance(failure := self.failing.get(f"after{name}"), EngineError):
                raise failure
            yield Finished(FinishReason.STOP, Usage(3, 2, 1))
        finally:
            self.running -= 1


def begin(inference, body, **times):
    options = Options(Timeouts(**times), wants_queue_updates=True)
    return Run(inference, ANONYMOUS, Target(None, ABLE), prompts(body), options)


async def whole(inference, body):
    return msgspec.json.decode(await begin(inference, body).whole(rendering(body)))


def texts(answer):
    return [(choice["index"], choice["text"]) for choice in answer["choices"]]


async def test_prompt_i_has_the_choices_from_i_times_n_on():
    answer = await whole(Inference(), text(prompt=["a", "b"], n=2, seed=7))
    assert texts(answer) == [(0, "1/7"), (1, "1-1/8"), (2, "1.1/7"), (3, "1.1-1/8")]


async def test_a_prompt_counts_once_and_every_answer_for_itself():
    usage = (await whole(Inference(), text(prompt=["a", "b"], n=2)))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (6, 8, 14)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2


async def test_no_more_run_side_by_side_than_there_are_places():
    inference = Inference()
    await whole(inference, text(prompt=["a"] * 20))
    assert inference.most == ABLE.places


async def test_an_answer_that_fails_is_left_out_and_named():
    run = begin(Inference(**{"after1-1": EngineError("broken")}), text(n=3))
    answer = msgspec.json.decode(await run.whole(rendering(text(n=3))))
    assert texts(answer) == [(0, "1/None"), (2, "1-2/None")]
    assert run.headers["x-failed-choices"] == "1=engine_error"


async def test_where_all_fail_the_first_error_is_the_answer():
    failing = {"after1": Overloaded("full"), "after1-1": EngineError("broken")}
    with pytest.raises(EngineError):
        await whole(Inference(**failing), text(n=2))


@pytest.mark.parametrize("name", ["before1", "before1.1", "door1", "door1.1"])
async def test_an_error_before_an_answer_is_raised_as_it_is(name):
    inference = Inference(**{name: InvalidRequest("no", param="prompt")})
    with pytest.raises(InvalidRequest, match="no"):
        await whole(inference, text(prompt=["a", "b", "c"]))
    assert inference.running == 0


async def test_a_client_that_leaves_ends_them_all():
    inference = Inference()
    body = text(prompt=["a", "b"], n=2)
    work = asyncio.create_task(begin(inference, body).whole(rendering(body)))
    await inference.began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert inference.running == 0


async def test_the_best_are_the_likeliest_on_average():
    inference = Inference()
    inference.logprobs = {"1": -3.0, "1-1": -1.0, "1-2": float("nan"), "1-3": -2.0}
    answer = await whole(inference, text(n=2, best_of=4))
    assert texts(answer) == [(0, "1-1/None"), (1, "1-3/None")]
    assert [choice["logprobs"] for choice in answer["choices"]] == [None, None]
    assert answer["usage"]["completion_tokens"] == 8


async def test_a_stream_tells_each_choice_by_its_number_and_the_usage_of_all():
    body = text(prompt=["a", "b"], n=2, stream=True, stream_options={"include_usage": True})
    made = rendering(body)
    told = [event async for event in begin(Inference(), body).events()]
    frames = [frame for event in told for frame in to_frame(made, event).split(b"\n\n") if frame]
    pieces = [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in frames]
    *chunks, last = pieces
    assert (last["choices"], last["usage"]["completion_tokens"], last["usage"]["prompt_tokens"]) == ([], 8, 6)
    said = dict.fromkeys(range(4), "")
    ended = []
    for chunk in chunks:
        (choice,) = chunk["choices"]
        said[choice["index"]] += choice["text"]
        ended += [choice["index"]] if choice["finish_reason"] else []
    assert said == {0: "1/None", 1: "1-1/None", 2: "1.1/None", 3: "1.1-1/None"}
    assert sorted(ended) == [0, 1, 2, 3]


async def test_a_choice_that_fails_in_a_stream_lets_the_others_finish():
    body = chat(n=3, stream=True)
    ended = []

    async def follow():
        async for index, event in begin(Inference(**{"after1-1": EngineError("broken")}), body).events():
            ended.extend([index] if isinstance(event, Finished) else [])

    with pytest.raises(EngineError, match="broken"):
        await follow()
    assert sorted(ended) == [0, 2]


async def test_only_one_answer_to_one_prompt_is_a_stream_of_the_engines_own():
    for body, is_single in (
        (chat(), True),
        (chat(n=2), False),
        (text(prompt=["a"]), True),
        (text(prompt=["a", "b"]), False),
        (text(best_of=2), False),
    ):
        inference, made = Inference(), rendering(body)
        events, encode = begin(inference, body).stream(made)
        async for event in events:
            encode(event)
        assert (encode == made.to_frame) is is_single
        # A queue position has no choice that it could belong to.
        assert set(inference.updates) == {is_single}


async def test_all_share_the_time_of_one_request(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("gateway.api.exchange.run.time.monotonic", lambda: clock[0])
    inference = Inference()
    run = begin(inference, text(prompt=["a", "b", "c"]), total=10.0, queue=3.0)
    async for event in run.events():
        clock[0] += 2.0 if isinstance(event, tuple) and isinstance(event[1], Finished) else 0.0
    assert [(times.total, times.queue) for times in inference.times] == [(10.0, 3.0), (8.0, 3.0), (6.0, 3.0)]
    clock[0] += 5.0
    async for _ in run.events():
        pass
    assert inference.times[-1].total == 0


@pytest.mark.parametrize("body", [chat(n=2), text(prompt=["a", "b"])])
async def test_without_a_word_of_time_several_share_what_the_configuration_allows(body):
    inference = Inference()
    await whole(inference, body)
    most = inference.config.server.request_seconds
    assert all(most - 1 < times.total <= most for times in inference.times)


async def test_a_single_answer_is_asked_for_with_the_times_as_they_are():
    inference = Inference()
    await whole(inference, chat())
    async for _ in begin(inference, chat(), queue=3.0).stream(rendering(chat()))[0]:
        pass
    assert inference.times == [Timeouts(), Timeouts(queue=3.0)]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("body", "held", "prompts_"),
    [
        (chat(), [], [0]),
        (chat(n=3), [(1, 3)], [1, 1, 1]),
        (text(n=1, best_of=2), [(1, 2)], [1, 1]),
        (text(prompt=["a", "b"]), [(2, 1)], [1, 2]),
        (text(prompt=["a", "b"], n=2), [(2, 2)], [1, 1, 2, 2]),
    ],
)
async def test_several_answers_hold_the_limits_once_and_each_prompt_its_part(body, held, prompts_, is_streamed):
    inference = Inference()
    if is_streamed:
        async for _ in begin(inference, body).stream(rendering(body))[0]:
            pass
    else:
        await whole(inference, body)
    assert (inference.asked, inference.held) == (held, 0)
    parts = [None, *dict.fromkeys(part for part in inference.allowances if part is not None)]
    assert sorted(parts.index(part) for part in inference.allowances) == prompts_


async def test_the_headers_of_all_visits_are_those_of_the_answer():
    inference = Inference()
    run = begin(inference, text(prompt=["a", "b"]))
    await run.whole(rendering(text(prompt=["a", "b"])))
    assert run.headers == {"x-1": "seen", "x-1.1": "seen"}


async def test_a_deadline_that_passes_in_the_middle_is_the_answers_own():
    with pytest.raises(DeadlineExceeded):
        await whole(Inference(before1=DeadlineExceeded("late")), chat(n=2))


@pytest.mark.parametrize("body", [text(), text(prompt=["a", "b"], n=2)])
async def test_only_an_answer_with_a_shape_says_whether_it_is_whole(body):
    shaped = msgspec.structs.replace(body, guided_regex="a")
    for asked, said in ((body, None), (shaped, "valid")):
        run = begin(Inference(), asked)
        await run.whole(rendering(asked))
        assert run.headers.get("x-structured") == said


@pytest.mark.parametrize("body", [text(), text(n=2)])
async def test_its_stream_says_it_at_the_end(body):
    for asked, said in ((body, 0), (msgspec.structs.replace(body, guided_regex="a"), body.n or 1)):
        run, made = begin(Inference(), asked), rendering(body)
        events, encode = run.stream(made)
        frames = b"".join([encode(event) async for event in events])
        assert frames.count(b'"x_structured":"valid"') == said
        assert "x-structured" not in run.headers
