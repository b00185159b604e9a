"""Traces as a real Jaeger shows them: two services, one before the other, which send over HTTP and over gRPC."""

import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.jaeger import MISSING, PROGRAM, jaeger
from tests.support.observe import eventually, logged
from tests.support.scripted_upstream import GOOD
from tests.support.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAM.is_file(), reason=MISSING)]

CONFIG = """
[engines.good]
plugin = "echo"
settings = {{model = "good"}}

[engines.slow]
plugin = "echo"
settings = {{model = "slow", places = 1, delay = 0.05}}

[engines.down]
plugin = "scripted"
settings = {{model = "down", script = {{fault = "raise", code = "upstream_unavailable", after = -1}}}}

[engines.torn]
plugin = "scripted"
settings = {{model = "torn", script = {{fault = "raise", code = "engine_error", after = 2}}}}

[engines.behind]
plugin = "openai"
settings = {{base_url = "{behind}/v1"}}

[engines.flaky]
plugin = "openai"
settings = {{base_url = "{flaky}/v1", server = "openai", models = {{flaky = "their/m"}}}}

[routes]
way = ["down", "good"]
"""
CHAT = {"messages": [{"role": "user", "content": "one two three"}], "temperature": 1}
PHASES = ["queue", "prefill", "decode"]
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


class HangsUpOnce(socketserver.ThreadingTCPServer):
    """A server that closes the connection of the first request for an answer, and answers the second one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.asked = 0


class _Connection(socketserver.StreamRequestHandler):
    server: HangsUpOnce

    def handle(self) -> None:
        head = self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        if head.startswith(b"POST"):
            self.server.asked += 1
            if self.server.asked > 1:
                self.wfile.write(GOOD)


@contextmanager
def hanging_up():
    with HangsUpOnce() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    with jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture(scope="module")
def front(shown, tmp_path_factory):
    """The service that clients ask; behind its engine `behind` is another one."""
    file = tmp_path_factory.mktemp("front") / "gateway.toml"
    http = {"OTEL_EXPORTER_OTLP_ENDPOINT": shown.http, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": shown.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    often = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
    slowly = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY": "0.02"}
    with Service(OTEL_SERVICE_NAME="back", **grpc, **often, **slowly) as back, hanging_up() as flaky:
        file.write_text(CONFIG.format(behind=back.url, flaky=flaky))
        with Service("--config", str(file), ENGINE="", OTEL_SERVICE_NAME="front", **http, **often) as service:
            yield service


def ask(service, model, **body):
    return service.client.post("/v1/chat/completions", json=CHAT | {"model": model} | body)


def is_well(root, late="none"):
    """No span has a warning of Jaeger's, each lies within its parent, and all are of one trace.

    The service `late` learns only afterwards that its client has left. A server's span ends once its last byte is sent,
    which may be after another service has read it.
    """
    for span in root.walk():
        assert span.warnings == [] or span.service == late, span
        assert span.trace_id == root.trace_id
        for child in span.children:
            assert child.parent == span.span_id
            # Jaeger keeps microseconds: the beginning and the duration are cut off each by itself.
            assert span.begin <= child.begin <= child.end, (span, child)
            assert child.end <= span.end + 2 or child.service != span.service, (span, child)
    return True


def test_a_streamed_chat_is_one_tree_over_both_services(front, shown):
    answer = ask(front, "echo", stream=True)
    root = shown.tree("front", answer, 11)
    assert is_well(root)
    lines = root.outline().splitlines()
    assert sorted(lines) == sorted(
        [
            "POST /v1/chat/completions",
            "  chat echo",
            *[f"    {phase}" for phase in PHASES],
            "    chat echo",
            "      POST /v1/chat/completions",
            "        chat echo",
            *[f"          {phase}" for phase in PHASES],
        ]
    )
    assert [(span.service, span.tags["span.kind"]) for span in root.walk() if span.name not in PHASES] == [
        ("front", "server"),
        ("front", "internal"),
        ("front", "client"),
        ("back", "server"),
        ("back", "internal"),
    ]
    (generation,) = root.children
    queue, prefill, decode = (next(each for each in generation.children if each.name == phase) for phase in PHASES)
    assert queue.end <= prefill.begin + 2
    assert prefill.end <= decode.begin + 2
    assert decode.end - decode.begin >= 2 * 15_000  # two words after the first, 20 ms each
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "echo",
        "gen_ai.response.model": "echo",
        "gen_ai.request.temperature": 1,
        "gen_ai.response.finish_reasons": '["stop"]',
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 3,
    }
    assert generation.tags | wanted == generation.tags
    served = {"http.route": "/v1/chat/completions", "http.response.status_code": 200, "llm_gateway.outcome": "ok"}
    assert root.tags | served == root.tags
    assert not any("error" in span.tags for span in root.walk())


def test_an_error_is_one_in_red_with_its_code(front, shown):
    answer = ask(front, "down")
    assert answer.status_code == 502
    root = shown.tree("front", answer, 3)
    assert is_well(root)
    (generation,) = root.children
    assert [child.name for child in generation.children] == ["queue"]
    for span in (root, generation):
        assert (span.tags["error"], span.tags["otel.status_code"]) == (True, "ERROR")
        assert span.tags["error.type"] == "upstream_unavailable"
    assert generation.tags["otel.status_description"] == "the script says so"


def test_a_clients_mistake_is_not_red(front, shown):
    root = shown.tree("front", ask(front, "good", temperature="hot"), 1)
    assert (root.tags["http.response.status_code"], root.tags["error.type"]) == (400, "invalid_value")
    assert "error" not in root.tags


def test_a_stream_that_breaks_off_is_red_and_has_its_phases(front, shown):
    root = shown.tree("front", ask(front, "torn", stream=True), 5)
    assert is_well(root)
    assert root.tags["llm_gateway.outcome"] == "aborted"
    assert root.tags["http.response.status_code"] == 200
    (generation,) = root.children
    assert [child.name for child in generation.children] == PHASES
    assert all(span.tags["error"] is True for span in (root, generation))
    assert generation.tags["gen_ai.usage.output_tokens"] == 2


def test_a_wait_for_a_place_is_as_long_as_the_log_says(front, shown):
    long = [{"role": "user", "content": "word " * 20}]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, front, "slow", messages=long)
        eventually(lambda: front.client.get("/v1/requests").json()["data"], 60)
        second = ask(front, "slow")
        first.result()
    root = shown.tree("front", second, 5)
    assert is_well(root)
    queue = root.find("queue")
    waited = logged(front, second.headers["x-request-id"])["queue_ms"] * 1_000
    assert queue.end - queue.begin == pytest.approx(waited, abs=5)
    assert waited > 200_000  # of the second that the first one takes
    assert shown.tree("front", first.result(), 5).find("queue").end < queue.end


def test_one_that_leaves_the_line_shows_its_wait(front, shown):
    long = [{"role": "user", "content": "word " * 20}]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, front, "slow", messages=long)
        eventually(lambda: front.client.get("/v1/requests").json()["data"], 60)
        refused = front.generate(model="slow", prompt="a b", temperature=1, queue_timeout=0.2)
        first.result()
    assert refused.json()["error"]["code"] == "queue_timeout"
    root = shown.tree("front", refused, 3)
    assert is_well(root)
    queue = root.find("queue")
    assert queue.end - queue.begin >= 150_000


def test_a_request_that_is_sent_again_says_so(front, shown):
    answer = front.client.post("/v1/completions", json={"model": "flaky", "prompt": "hi"})
    assert answer.status_code == 200
    root = shown.tree("front", answer, 6)
    assert is_well(root)
    (client,) = [span for span in root.walk() if span.tags.get("span.kind") == "client"]
    assert client.tags["http.request.resend_count"] == 1
    assert client.tags["server.address"] == "127.0.0.1"


def test_an_engine_that_is_passed_over_is_an_event(front, shown):
    answer = ask(front, "way")
    assert answer.headers["x-fallback"] == "upstream_unavailable"
    root = shown.tree("front", answer, 5)
    assert is_well(root)
    (generation,) = root.children
    assert generation.name == "chat good"
    told = [(event["event"], event.get("llm_gateway.engine"), event["reason"]) for event in generation.events]
    assert told == [
        ("try", "down", "upstream_unavailable"),
        ("fallback", None, "upstream_unavailable"),
        ("try", "good", ""),
    ]
    assert (generation.tags["gen_ai.request.model"], generation.tags["gen_ai.response.model"]) == ("way", "good")
    assert "error" not in generation.tags


def test_a_cancelled_stream_ends_everywhere_and_is_no_error(front, shown):
    body = CHAT | {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "word " * 500}]}
    with front.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    root = shown.tree("front", answer, 11)
    assert is_well(root, late="back")
    for name in ("front", "back"):
        served = [span for span in root.walk() if span.service == name and span.tags["span.kind"] == "server"]
        assert [span.tags["llm_gateway.outcome"] for span in served] == ["client_closed"]
    made = [span for span in root.walk() if "gen_ai.response.id" in span.tags]
    assert [span.tags["error.type"] for span in made] == ["client_closed_request"] * 2
    assert not any("error" in span.tags for span in root.walk())
    assert root.end - root.begin < 5_000_000  # of the ten seconds that the answer takes


def test_a_shared_answer_leads_to_the_request_that_makes_it(front, shown):
    same = {"temperature": 0, "messages": [{"role": "user", "content": "a b c d e f g h i j"}]}
    with ThreadPoolExecutor(2) as pool:
        both = [future.result() for future in [pool.submit(ask, front, "slow", **same) for _ in range(2)]]
    kept = ask(front, "slow", **same)
    statuses = {answer.headers["x-cache"]: shown.tree("front", answer, 5) for answer in (*both, kept)}
    assert set(statuses) == {"miss", "coalesced", "hit"}
    made = statuses["miss"].children[0]
    assert made.links == []
    for status in ("coalesced", "hit"):
        (reader,) = statuses[status].children
        assert reader.links == [(made.trace_id, made.span_id)]
        assert reader.trace_id != made.trace_id
        assert reader.tags["llm_gateway.cache.result"] == status


def is_of(sample, trace_id):
    """Whether a bucket of the model `slow` has its exemplar from a trace."""
    return sample.labels.get("gen_ai_request_model") == "slow" and sample.exemplar.labels["trace_id"] == trace_id


def test_the_exemplar_of_a_bucket_leads_to_the_trace(front, shown):
    answer = ask(front, "slow", messages=[{"role": "user", "content": "word " * 30}])
    root = shown.tree("front", answer, 5)
    time.sleep(1.1)  # scrapes of a second share one rendering
    text = front.client.get("/v1/metrics", headers=OPENMETRICS).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    # Each bucket keeps its last measurement, which is this request's; one before it may have been slower.
    exemplar = max(
        (sample.exemplar for sample in samples if sample.exemplar and is_of(sample, root.trace_id)),
        key=lambda exemplar: exemplar.value,
    )
    (trace,) = shown.ask(f"traces/{exemplar.labels['trace_id']}")
    (span,) = [span for span in trace["spans"] if span["spanID"] == exemplar.labels["span_id"]]
    assert span["operationName"] == "chat slow"
    assert span["duration"] == pytest.approx(exemplar.value * 1e6, abs=5)


def test_probes_and_scrapes_are_in_no_trace(front, shown):
    for path in ("/readyz", "/livez", "/metrics"):
        front.client.get(path)
    ask(front, "good")
    eventually(
        lambda: "POST /v1/chat/completions" in {each["name"] for each in shown.ask("operations", service="front")}, 60
    )
    names = {each["name"] for each in shown.ask("operations", service="front")}
    assert not {name for name in names if "/readyz" in name or "/livez" in name or "/metrics" in name}
