"""The dashboards show every metric of the gateway, and nothing that does not exist."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.admin import gauges
from gateway.auth import Keyring
from gateway.background import Background
from gateway.cache import CacheSettings, to_cache
from gateway.engine import Capability, ModelCard
from gateway.flow.breaker import Breaker
from gateway.flow.budget import ByteBudget
from gateway.hosting.loads import LoadCounts
from gateway.store import Store, StoreSettings
from gateway.telemetry.instruments import Distribution, Tally
from gateway.telemetry.metrics import Metrics
from tests.support.dashboards import DASHBOARDS, GRAFANA, TARGETS, panels, promql, variables
from tests.support.pages import Page, serving
from tests.support.prometheus import RULES, Prometheus, job, promtool, scraping

# The names of recorded series have colons.
OURS = re.compile(r"(?<!:)\b(?:llm_gateway|gen_ai)_\w+")
LABELS = re.compile(r"\bby \([^)]*\)|{[^}]*}")
OF_A_HISTOGRAM = re.compile(r"_(?:bucket|count|sum)$")


def named(expression: str) -> set[str]:
    """Find the metrics in an expression; a histogram's series stand for the histogram."""
    return {OF_A_HISTOGRAM.sub("", name) for name in OURS.findall(LABELS.sub("", expression))}


def shown() -> set[str]:
    return {name for target in TARGETS.values() for name in named(target["expr"])}


@pytest.fixture(scope="module")
def exposition() -> bytes:
    """All metrics at once: each instrument measured something, an engine is up, and its model is loaded."""
    metrics = Metrics(Resource.get_empty(), lambda: {"spans": 1})
    card = ModelCard(name="some", context_window=8, capabilities=frozenset({Capability.CHAT}))
    counts = LoadCounts(
        loads=Counter({("default", "ok"): 1}),
        seconds={("default",): 1.0},
        evictions=Counter({("default", "room"): 1}),
    )
    loads = SimpleNamespace(counts=counts, resident=lambda: {("default",): 1.0}, sizes=lambda: {("default",): 1.0})
    directory = SimpleNamespace(
        loaded=lambda: [("default", card)],
        up=lambda: {"default": True},
        wanted=lambda: {("default",): 1.0},
        places=lambda: {"some": 2},
        restarts=lambda: {("default", "exit"): 1},
        memory=lambda: {("default",): 1},
        cpu_seconds=lambda: {("default",): 1},
        preemptions=lambda: {("default",): 1},
        drifts=lambda: {("some",): 0.1},
        cache_used=lambda: {("default",): 1},
        cache_sizes=lambda: {("some",): 1},
    )
    queue = SimpleNamespace(
        waiting=1, breaker=Breaker(time.monotonic), places=SimpleNamespace(tokens=1, running=1, total=2)
    )
    admission = SimpleNamespace(queues={"some": queue}, questions={"some": SimpleNamespace(waiting=1)})
    edge = SimpleNamespace(in_flight=1, bodies=ByteBudget(1), outgoing=SimpleNamespace(budget=ByteBudget(1)))
    hosting = SimpleNamespace(directory=directory, loads=loads)
    gauges.register(metrics, hosting, admission, SimpleNamespace(is_degraded=False), edge)
    gauges.register_cache(metrics, to_cache(CacheSettings()))
    gauges.register_store(metrics, Store(StoreSettings()), Background(lambda: 1, lambda: 1))
    gauges.register_keys(metrics, SimpleNamespace(snapshot=SimpleNamespace(keyring=Keyring())))
    counted = Counter(completed=1, failed=1)
    gauges.register_batches(metrics, SimpleNamespace(under_way=1, counts=counted, given_way=1))
    for instrument in (*vars(metrics).values(), *vars(metrics.answers).values()):
        if isinstance(instrument, Tally):
            instrument.add(1, *instrument._labels)
        if isinstance(instrument, Distribution):
            instrument.record(0.1, *instrument._labels)
    # What panels ask for by name.
    metrics.requests.add(1, "200", "/v1/generate", "some")
    metrics.errors.add(1, "engine", "engine_error", "some")
    for kind in ("input", "output", "limit"):
        metrics.answers.generation_tokens.record(1, "some", kind)
    return metrics.render()[0]


@pytest.fixture(scope="module")
def prometheus(exposition: bytes) -> Iterator[Prometheus]:
    """A Prometheus that scraped all metrics at least twice, so that it knows rates."""
    page = Page(exposition, content_type="text/plain; version=0.0.4")
    with serving({"/metrics": page}) as address, scraping(job(address), rules=RULES) as running:
        running.wait_for("count_over_time(llm_gateway_engine_up[1m]) > 1")
        running.wait_for("job:llm_gateway_slo_errors:ratio_rate3d")
        yield running


def test_the_dashboards_and_the_gateway_have_the_same_metrics(exposition: bytes):
    families = text_string_to_metric_families(exposition.decode())
    names = {family.name + "_total" * (family.type == "counter") for family in families}
    assert shown() == {name for name in names if OURS.fullmatch(name)}


def test_promtool_parses_every_expression(tmp_path: Path):
    rules = [{"record": f"panel:{number}", "expr": promql(target)} for number, target in enumerate(TARGETS.values())]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(TARGETS)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("title", TARGETS)
def test_every_target_has_an_answer_with_the_labels_of_its_legend(title: str, prometheus: Prometheus):
    target = TARGETS[title]
    samples = prometheus.query(promql(target))
    assert samples
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        assert all(sample.labels.get(label) for sample in samples)


def test_the_models_to_choose_from_are_those_that_are_loaded(prometheus: Prometheus):
    for name in DASHBOARDS:
        query = variables(name)["model"]["query"]["query"]
        [(metric, label)] = re.findall(r"^label_values\((\w+), (\w+)\)$", query)
        assert [sample.labels[label] for sample in prometheus.query(metric)] == ["some"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_in_use_is_defined(name: str):
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARDS[name])))
    assert used == set(variables(name))


def test_each_dashboard_has_an_id_of_its_own_and_a_link_to_the_others():
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS) == 3
    for dashboard in DASHBOARDS.values():
        assert dashboard["links"][0]["tags"] == dashboard["tags"] == ["llm-gateway"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_takes_the_chosen_data_source_and_says_what_it_shows(name: str):
    for panel in panels(name):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["description"].endswith("."), panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str):
    everything = DASHBOARDS[name]["panels"]
    assert Counter(panel["id"] for panel in everything).most_common(1)[0][1] == 1
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) == 23


def test_the_data_source_chosen_at_first_is_provisioned():
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    (source,) = [source for source in sources if source.get("isDefault")]
    for name in DASHBOARDS:
        variable = variables(name)["datasource"]
        assert (variable["current"]["value"], variable["query"]) == (source["uid"], source["type"])


def test_the_quantiles_of_times_have_dots_that_lead_to_traces():
    drawn = [panel for name in DASHBOARDS for panel in panels(name) if panel["type"] == "timeseries"]
    quantiles = re.compile(r"histogram_quantile\(0\.95.*_seconds_bucket")
    targets = [target for panel in drawn for target in panel["targets"] if quantiles.match(target["expr"])]
    assert len(targets) > len(DASHBOARDS)
    assert all(target["exemplar"] is True for target in targets)
