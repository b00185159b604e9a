import asyncio
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway.engine import (
    Chat,
    ContextTooLong,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    Message,
    Started,
    Text,
    ToolDelta,
    Unavailable,
    Usage,
)
from gateway.telemetry.context import current_record, open_record
from gateway.telemetry.fault_domains import DOMAINS
from gateway.telemetry.tracing import remote_parent

EVENTS = (
    Started(5, cached_tokens=2, queue_seconds=0.001, prefill_seconds=0.002),
    Delta("a"),
    Delta("", tokens=0),
    ToolDelta(0, "{}", tokens=1),
    Delta("b", tokens=2),
    Finished(FinishReason.STOP, Usage(5, 4, 2)),
)
LABELS = {"gen_ai_operation_name": "text_completion", "gen_ai_provider_name": "hf", "gen_ai_request_model": "tiny"}


def key(**labels):
    return tuple(sorted(labels.items()))


def run(watched, request, card, events=EVENTS, error=None):
    with watched.telemetry.generation(request, card, "hf") as generation:
        for event in events:
            generation.see(event)
        generation.charge(generation.usage, generation.usage)
        if error is not None:
            raise error


def test_the_phases_are_children_of_the_generation_and_that_of_the_request(watched, request_, card):
    serving = watched.telemetry.tracing.serve("POST", remote_parent([]))
    record = open_record(serving)
    run(watched, request_, card)
    assert set(watched.spans()) == set()
    record.close()
    serving.end()
    spans = watched.spans()
    assert set(spans) == {"POST", "text_completion tiny", "queue", "prefill", "decode"}
    span = spans["text_completion tiny"]
    assert span.parent.span_id == spans["POST"].context.span_id
    assert span.kind is SpanKind.INTERNAL
    phases = [spans[name] for name in ("queue", "prefill", "decode")]
    assert all(phase.parent.span_id == span.context.span_id for phase in phases)
    moments = [
        span.start_time,
        *[time for phase in phases for time in (phase.start_time, phase.end_time)],
        span.end_time,
    ]
    assert moments == sorted(moments)


def test_the_span_says_what_was_asked_and_answered(watched, request_, card):
    run(watched, request_, card)
    assert dict(watched.spans()["text_completion tiny"].attributes) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "hf",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "01J",
        "gen_ai.response.model": "tiny",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 2,
    }


def test_a_chat_is_named_chat(watched, request_, card):
    chat = replace(request_, prompt=Chat((Message("user", (Text("PROMPT-CANARY"),)),)))
    run(watched, chat, card)
    assert watched.spans()["chat tiny"].attributes["gen_ai.operation.name"] == "chat"


def test_the_engine_gets_the_span_as_traceparent(watched, request_, card):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        handed_on = generation.traceparent
        generation.see(EVENTS[-1])
    context = watched.spans()["text_completion tiny"].context
    assert handed_on == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_the_metrics_of_a_whole_answer(watched, request_, card, samples):
    run(watched, request_, card)
    assert samples("llm_gateway_tokens_generated_total") == {key(model="tiny"): 4}
    assert samples("llm_gateway_prompt_tokens_total") == {key(model="tiny"): 5}
    assert samples("llm_gateway_cached_tokens_total") == {key(model="tiny"): 2}
    assert samples("llm_gateway_active_requests") == {key(model="tiny"): 0}
    assert samples("llm_gateway_generation_duration_seconds_count") == {key(model="tiny"): 1}
    assert samples("gen_ai_server_request_duration_seconds_count") == {key(error_type="", **LABELS): 1}
    assert samples("gen_ai_server_time_to_first_token_seconds_count") == {key(**LABELS): 1}
    assert samples("gen_ai_server_time_per_output_token_seconds_count") == {key(**LABELS): 1}


def test_what_an_answer_was_and_how_it_ended(watched, request_, card, samples):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        generation.place(0.0)
        for event in EVENTS:
            generation.see(event)
    assert samples("llm_gateway_generations_total") == {key(model="tiny", reason="stop"): 1}
    assert samples("llm_gateway_generation_tokens_sum") == {
        key(model="tiny", type="input"): 5,
        key(model="tiny", type="output"): 4,
        key(model="tiny", type="limit"): 7,
    }
    phases = samples("llm_gateway_phase_duration_seconds_sum")
    assert phases.keys() == {key(model="tiny", phase="prefill"), key(model="tiny", phase="decode")}
    assert all(seconds >= 0 for seconds in phases.values())
    (both,) = samples("llm_gateway_work_duration_seconds_sum").values()
    assert both == pytest.approx(sum(phases.values()))


def test_an_answer_that_took_no_place_has_no_phases(watched, request_, card, samples):
    run(watched, request_, card)
    assert samples("llm_gateway_generations_total") == {key(model="tiny", reason="stop"): 1}
    assert samples("llm_gateway_phase_duration_seconds_count") == {}


@pytest.mark.parametrize(
    "end",
    [
        (EVENTS[:2], EngineError("broken"), {key(model="tiny", reason="engine_error"): 1}),
        (EVENTS[:2], asyncio.CancelledError(), {key(model="tiny", reason="client_closed_request"): 1}),
        ((), Unavailable("starting"), {}),
    ],
)
def test_an_answer_that_began_counts_however_it_ends(watched, request_, card, samples, end):
    events, error, ends = end
    with pytest.raises(type(error)):
        run(watched, request_, card, events, error)
    assert samples("llm_gateway_generations_total") == ends


def test_tokens_and_active_requests_are_seen_while_it_runs(watched, request_, card, samples):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        generation.see(EVENTS[0])
        generation.see(EVENTS[1])
        assert samples("llm_gateway_active_requests") == {key(model="tiny"): 1}
        assert samples("llm_gateway_tokens_generated_total") == {key(model="tiny"): 1}
        generation.see(EVENTS[-1])


@pytest.mark.parametrize(
    "failure",
    [
        (Unavailable("starting"), "engine_unavailable", StatusCode.ERROR),
        (EngineError("broken"), "engine_error", StatusCode.ERROR),
        (ZeroDivisionError("PROMPT-CANARY"), "internal_error", StatusCode.ERROR),
        (ContextTooLong("904 too many"), "context_length_exceeded", StatusCode.UNSET),
    ],
)
def test_a_failure_is_named_everywhere(failure, request_, card, watched, samples):
    error, code, status = failure
    with pytest.raises(type(error)):
        run(watched, request_, card, EVENTS[:3], error)
    span = watched.spans()["text_completion tiny"]
    assert span.attributes["error.type"] == code
    assert span.attributes["llm_gateway.fault.domain"] == DOMAINS[code]
    assert span.status.status_code is status
    assert "CANARY" not in str(span.to_json())
    assert samples("gen_ai_server_request_duration_seconds_count") == {key(error_type=code, **LABELS): 1}
    assert samples("llm_gateway_active_requests") == {key(model="tiny"): 0}


def test_what_was_used_up_to_now_is_known_at_any_time(watched, request_, card):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        assert (generation.started, generation.usage) == (None, Usage(0, 0))
        for event in EVENTS[:4]:
            generation.see(event)
        assert (generation.started, generation.usage) == (EVENTS[0], Usage(5, 2, 2))
        generation.see(EVENTS[-1])


def test_a_stream_that_just_stops_is_an_engine_error(watched, request_, card):
    run(watched, request_, card, EVENTS[:3])
    assert watched.spans()["text_completion tiny"].attributes["error.type"] == "engine_error"


async def stream(watched, request, card):
    with watched.telemetry.generation(request, card, "hf") as generation:
        for event in EVENTS[:3]:
            generation.see(event)
            yield event
        await asyncio.Event().wait()


async def assert_nothing_leaked(watched, samples, log):
    spans = watched.spans()
    assert set(spans) == {"text_completion tiny", "queue", "prefill", "decode"}
    assert all(span.end_time is not None for span in spans.values())
    span = spans["text_completion tiny"]
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["error.type"] == "client_closed_request"
    assert samples("llm_gateway_active_requests") == {key(model="tiny"): 0}
    assert samples("gen_ai_server_request_duration_seconds_count") == {
        key(error_type="client_closed_request", **LABELS): 1
    }
    assert "detach" not in log.text()


async def test_closing_the_stream_ends_its_spans_and_is_no_error(watched, request_, card, samples, log):
    async with aclosing(stream(watched, request_, card)) as events:
        await anext(events)
        await anext(events)
    await assert_nothing_leaked(watched, samples, log)


async def test_closing_the_stream_from_another_task_ends_its_spans(watched, request_, card, samples, log):
    events = stream(watched, request_, card)
    await asyncio.create_task(anext(events))
    await asyncio.create_task(anext(events))
    await asyncio.create_task(events.aclose())
    await assert_nothing_leaked(watched, samples, log)


async def test_cancelling_the_reader_ends_its_spans_and_is_no_error(watched, request_, card, samples, log):
    events = stream(watched, request_, card)

    async def read():
        async for _ in events:
            pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await assert_nothing_leaked(watched, samples, log)


def test_leaving_after_the_end_is_a_whole_answer(watched, request_, card):
    with pytest.raises(GeneratorExit):
        run(watched, request_, card, error=GeneratorExit())
    assert "error.type" not in watched.spans()["text_completion tiny"].attributes


def test_the_requests_record_learns_of_it(watched, request_, card):
    open_record(watched.telemetry.tracing.serve("POST", remote_parent([])))
    run(watched, request_, card)
    record = current_record()
    assert (record.model, record.code, record.tokens, record.prompt_tokens) == ("tiny", "", 4, 5)
    assert record.queue == 0.001
    assert record.ttft >= 0
    with pytest.raises(Unavailable):
        run(watched, request_, card, (), Unavailable("gone"))
    assert record.code == "engine_unavailable"


LATE = (Started(None), *EVENTS[1:])


def test_a_prompt_whose_length_is_known_at_the_end_is_counted_as_any_other(watched, request_, card, samples):
    record = open_record(watched.telemetry.tracing.serve("POST", remote_parent([])))
    run(watched, request_, card, LATE)
    assert record.prompt_tokens == 5
    record.close()
    assert samples("llm_gateway_prompt_tokens_total") == {key(model="tiny"): 5}
    assert samples("llm_gateway_cached_tokens_total") == {key(model="tiny"): 2}
    attributes = watched.spans()["text_completion tiny"].attributes
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.cache_read.input_tokens"]) == (5, 2)


def test_a_prompt_of_unknown_length_is_no_number_while_it_runs(watched, request_, card):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        generation.see(LATE[0])
        assert generation.prompt_tokens is None
        generation.see(LATE[-1])
        assert generation.prompt_tokens == 5
        assert generation.usage == LATE[-1].usage


def test_no_prompt_text_reaches_a_span(watched, request_, card):
    run(watched, request_, card)
    assert "CANARY" not in "".join(span.to_json() for span in watched.spans().values())


@pytest.mark.parametrize("is_charged", [True, False])
def test_what_a_key_is_charged_is_counted_for_it(watched, request_, card, samples, is_charged):
    record = open_record(watched.telemetry.tracing.serve("POST", remote_parent([])))
    record.key = "k3f9a0c2d1"
    with watched.telemetry.generation(request_, card, "hf") as generation:
        for event in EVENTS:
            generation.see(event)
        if is_charged:
            generation.charge(Usage(5, 4, 2), Usage(1, 4))
    record.close()
    found = {key(key_id="k3f9a0c2d1", type="input"): 1, key(key_id="k3f9a0c2d1", type="output"): 4}
    assert samples("llm_gateway_key_tokens_total") == (found if is_charged else {})
    assert samples("llm_gateway_prompt_tokens_total") == ({key(model="tiny"): 5} if is_charged else {})


def test_a_shared_answer_is_counted_where_it_is_made_and_not_where_it_is_read(watched, request_, card, samples):
    with watched.telemetry.generation(request_, card, "hf") as generation:
        generation.cache = "coalesced"
        for event in EVENTS:
            generation.see(event)
    assert samples("llm_gateway_tokens_generated_total") == {}
    for event in EVENTS:
        generation.make(event)
    assert samples("llm_gateway_tokens_generated_total") == {key(model="tiny"): 4}


def test_without_a_key_no_key_has_tokens(watched, request_, card, samples):
    run(watched, request_, card)
    assert samples("llm_gateway_key_tokens_total") == {}


def exemplars(watched):
    """Map each histogram to the spans that its buckets lead to."""
    watched.telemetry.metrics._rendered.clear()
    text = watched.telemetry.metrics.render("application/openmetrics-text")[0].decode()
    return {
        family.name: {sample.exemplar.labels["span_id"] for sample in family.samples if sample.exemplar}
        for family in read_openmetrics(text)
        if family.type == "histogram"
    }


def test_the_histograms_of_a_generation_lead_to_its_span(watched, request_, card):
    record = open_record(watched.telemetry.tracing.serve("POST", remote_parent([])))
    with watched.telemetry.generation(request_, card, "hf") as generation:
        generation.wait()
        generation.place(0.5)
        generation.note_try("hf", "", 0.1)
        for event in EVENTS:
            generation.see(event)
    record.close()
    found = exemplars(watched)
    span = watched.spans()["text_completion tiny"]
    assert {spans.pop() for spans in found.values()} == {f"{span.context.span_id:016x}"}
    assert not any(found.values())
    assert {"llm_gateway_queue_wait_seconds", "llm_gateway_try_duration_seconds"} < set(found)
    assert {"llm_gateway_generation_duration_seconds", "gen_ai_server_time_per_output_token_seconds"} < set(found)


def test_no_histogram_leads_to_a_trace_that_the_caller_did_not_sample(watched, request_, card):
    unsampled = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]
    record = open_record(watched.telemetry.tracing.serve("POST", remote_parent(unsampled)))
    run(watched, request_, card)
    record.close()
    found = exemplars(watched)
    assert not any(found.values())
    assert "gen_ai_server_request_duration_seconds" in found


def test_a_shared_answer_has_a_link_to_the_generation_that_makes_it(watched, request_, card):
    maker = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with watched.telemetry.generation(request_, card, "hf") as generation:
        for event in EVENTS:
            generation.see(event)
        for nothing in (None, "", "nonsense"):
            generation.link(nothing)
        generation.link(maker)
    (link,) = watched.spans()["text_completion tiny"].links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == tuple(maker.split("-")[1:3])


def fail(watched, request, card, error, *places):
    """Join the line, have a place after so many seconds, and end in an error before any event."""
    with watched.telemetry.generation(request, card, "hf") as generation:
        generation.wait()
        for seconds in places:
            generation.place(seconds)
        raise error


def test_one_that_leaves_the_line_has_waited_to_its_end(watched, request_, card):
    with pytest.raises(GeneratorExit):
        fail(watched, request_, card, GeneratorExit())
    spans = watched.spans()
    span, queue = spans["text_completion tiny"], spans["queue"]
    assert set(spans) == {"text_completion tiny", "queue"}
    assert queue.parent.span_id == span.context.span_id
    assert span.start_time <= queue.start_time < queue.end_time == span.end_time


def test_one_that_fails_at_its_place_has_waited_until_it_had_it(watched, request_, card):
    with pytest.raises(Unavailable):
        fail(watched, request_, card, Unavailable("gone"), 0.5)
    spans = watched.spans()
    assert set(spans) == {"text_completion tiny", "queue"}
    assert spans["queue"].end_time < spans["text_completion tiny"].end_time
