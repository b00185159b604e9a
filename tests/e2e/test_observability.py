"""Traces, metrics and logs of the running service, as Jaeger, Prometheus and a log reader would see them."""

import json

import pytest

from gateway.auth import KeyFile, Scope
from tests.support.otlp import otlp_receiver
from tests.support.service import Service, total

TRACE = "0af7651916cd43dd8448eb211c80319c"
SEED_METRICS = {
    "llm_gateway_requests_total",
    "llm_gateway_request_duration_seconds_count",
    "llm_gateway_tokens_generated_total",
    "llm_gateway_generation_duration_seconds_count",
    "llm_gateway_active_requests",
    "llm_gateway_model_info",
}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_jaeger_would_show_the_request_over_its_generation_over_its_phases(protocol):
    with otlp_receiver() as receiver:
        endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
        with Service(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_PROTOCOL=protocol) as service:
            parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            service.client.post("/v1/generate", json={"prompt": "a b c"}, headers=parent)
            messages = [{"role": "user", "content": "hello"}]
            service.client.post("/v1/generate", json={"messages": messages, "stream": True}, headers=parent)
            answer = service.client.post("/v1/generate", json={"prompt": 5}, headers=parent)
            for probe in ("/readyz", "/livez", "/v1/health", "/metrics"):
                service.client.get(probe, headers=parent)
        roots = receiver.roots()
    assert {root.span.trace_id.hex() for root in roots} == {TRACE}
    assert [root.name for root in roots] == ["POST /v1/generate"] * 3
    whole, chat, refused = roots
    assert [child.name for child in whole.children] == ["text_completion echo"]
    assert [child.name for child in chat.children] == ["chat echo"]
    assert [child.name for child in chat.children[0].children] == ["queue", "prefill", "decode"]
    assert refused.children == []
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["http.route"] == "/v1/generate"
    told = whole.children[0].attributes
    assert told["gen_ai.operation.name"] == "text_completion"
    assert told["gen_ai.usage.input_tokens"] == 3
    assert told["gen_ai.usage.output_tokens"] == 3
    assert refused.attributes["http.response.status_code"] == 400
    assert refused.attributes["error.type"] == "invalid_value"
    assert refused.attributes["llm_gateway.request.id"] == answer.headers["x-request-id"]


def test_a_dead_collector_costs_requests_nothing_and_the_end_two_seconds():
    with Service(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as service:
        for _ in range(20):
            assert service.generate(prompt="a b c").status_code == 200
        service.process.terminate()
        assert service.process.wait(40) == 0


def test_the_six_metrics_are_there_and_true():
    with Service() as service:
        service.generate(prompt="a b c")
        list(service.client.post("/v1/generate", json={"prompt": "a b", "stream": True}).iter_lines())
        service.generate(prompt=5)
        text = service.client.get("/v1/metrics").text
        names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        assert SEED_METRICS - names == set()
        told = service.scrape()
        assert total(told, "llm_gateway_requests_total", status="200", endpoint="/v1/generate", model="echo") == 2
        assert total(told, "llm_gateway_requests_total", status="400", endpoint="/v1/generate") == 1
        assert total(told, "llm_gateway_request_duration_seconds_count", endpoint="/v1/generate") == 3
        assert total(told, "llm_gateway_tokens_generated_total", model="echo") == 5
        assert total(told, "llm_gateway_generation_duration_seconds_count", model="echo") == 2
        assert total(told, "llm_gateway_active_requests") == 0
        assert total(told, "llm_gateway_model_info", model="echo", engine="echo") == 1
        assert total(told, "gen_ai_server_time_to_first_token_seconds_count") == 2


def test_what_concerns_a_model_that_is_not_loaded_is_counted_under_its_name():
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__MODEL="org/parrot") as service:
        paths = ("/v1/models/default/unload", "/v1/models/org/parrot/unload", "/v1/models/org%2Fparrot/load")
        for path in paths:
            assert service.client.post(path).json()["model"] == "parrot"
        service.client.post("/v1/models/parrot/unload")
        for model in (None, "parrot", "org/parrot", "default"):
            assert service.generate(prompt="a", model=model).status_code == 503
        assert service.generate(prompt="a", model="nope").status_code == 404
        assert service.client.post("/v1/models/org/nope/load").status_code == 404
        assert service.client.get("/readyz").status_code == 503
        told = service.scrape()
        counted = "llm_gateway_requests_total"
        assert total(told, counted, endpoint="/v1/generate", status="503", model="parrot") == 4
        assert total(told, counted, endpoint="/v1/generate", status="404", model="unknown") == 1
        assert total(told, counted, endpoint="/v1/models/{name}/unload", model="parrot") == 2
        assert total(told, counted, endpoint="/v1/models/{owner}/{name}/load", status="200", model="parrot") == 1
        assert total(told, counted, endpoint="/v1/models/{owner}/{name}/load", model="unknown") == 1
        assert total(told, "llm_gateway_rejected_total", code="http_503") == 0
        assert total(told, "llm_gateway_rejected_total", code="engine_unavailable") == 4


def test_the_memory_of_an_engine_and_the_tokens_of_a_key_are_seen(tmp_path):
    key, text = KeyFile(tmp_path / "keys.db").create("me", scopes=frozenset({Scope.INFER, Scope.METRICS}))
    isolated = {"LLM_GATEWAY__ENGINES__DEFAULT__ISOLATED": "true", "LLM_GATEWAY__AUTH__FILE": str(tmp_path / "keys.db")}
    with Service(**isolated) as service:
        service.client.headers["authorization"] = f"Bearer {text}"
        assert service.generate(prompt="a b c", max_new_tokens=2).status_code == 200
        told = service.scrape()
    assert total(told, "llm_gateway_engine_memory_bytes", engine="default") > 10 * 2**20
    assert total(told, "llm_gateway_key_tokens_total", key_id=key.id, type="input") == 3
    assert total(told, "llm_gateway_key_tokens_total", key_id=key.id, type="output") == 2
    assert total(told, "llm_gateway_kv_cache_held_tokens", model="echo") == 0


def test_probes_and_scrapes_fill_no_log():
    with Service() as service:
        for path in ("/livez", "/readyz", "/health", "/ping", "/v1/health", "/metrics", "/v1/metrics", "/v1/models"):
            assert service.client.get(path).status_code == 200
            assert service.client.head(path).status_code == 200
    told = [(line["method"], line["route"]) for line in service.kept if line.get("event") == "request"]
    assert [line for line in told if line[1] != "/readyz"] == [("GET", "/v1/models"), ("HEAD", "/v1/models")]


def test_every_request_is_one_json_line_with_its_id():
    with Service() as service:
        answers = [service.generate(prompt="a b c"), service.generate(prompt=5), service.client.get("/nope")]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert answers[0].json()["id"] == ids[0]
    told = [line for line in service.kept if line.get("request_id") in ids]
    assert [line["request_id"] for line in told] == ids
    assert [line["status"] for line in told] == [200, 400, 404]
    assert [line.get("code") for line in told] == [None, "invalid_value", "not_found"]
    assert told[0]["model"] == "echo"
    assert told[0]["tokens"] == 3
    assert [line.get("finish_reason") for line in told] == ["stop", None, None]
    assert told[0]["duration_ms"] > 0
    for line in service.kept:
        assert {"time", "level", "message"} <= line.keys()
        assert line["time"].endswith("Z")


def test_no_prompt_text_is_in_any_log_or_metric_or_span():
    secret = "xyzzy-canary"
    with otlp_receiver() as receiver:
        with Service(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_endpoint, LOG_LEVEL="DEBUG") as service:
            service.generate(prompt=secret)
            service.generate(messages=[{"role": "user", "content": secret}], stream=True)
            service.generate(prompt=secret, temperature="hot")
            service.client.post(
                "/v1/generate", content=f'{{"prompt": "{secret}', headers={"content-type": "application/json"}
            )
            assert secret not in service.client.get("/metrics").text
            assert secret not in service.output
        assert secret not in str(receiver.wait_for(4))
    assert secret not in json.dumps(service.kept)


def test_the_human_format_is_for_people():
    with Service(LLM_GATEWAY__TELEMETRY__LOG_FORMAT="text") as service:
        service.generate(prompt="a b c")
    assert service.kept == []
    assert "POST /v1/generate 200" in service.kept_output


def test_the_log_level_is_kept():
    with Service(LOG_LEVEL="ERROR") as service:
        service.generate(prompt="a b c")
    assert service.kept == []
