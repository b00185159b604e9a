"""The dashboard shows every metric of the gateway, and nothing that does not exist."""

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
from tests.support.pages import Page, serving
from tests.support.prometheus import Prometheus, job, promtool, scraping

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/llm-gateway.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
TARGETS = {
    f"{panel['id']} {panel['title']} {target['refId']}": target for panel in PANELS for target in panel["targets"]
}

OURS = re.compile(r"\b(?:llm_gateway|gen_ai)_\w+")
LABELS = re.compile(r"\bby \([^)]*\)|{[^}]*}")
OF_A_HISTOGRAM = re.compile(r"_(?:bucket|count|sum)$")


def promql(target: dict[str, str]) -> str:
    """Put values in the place of Grafana's variables."""
    return target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")


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
    directory = SimpleNamespace(
        loaded=lambda: [("default", card)],
        up=lambda: {"default": True},
        restarts=lambda: {("default", "exit"): 1},
        memory=lambda: {("default",): 1},
        cache_used=lambda: {("default",): 1},
        cache_sizes=lambda: {("some",): 1},
    )
    queue = SimpleNamespace(waiting=1, breaker=Breaker(time.monotonic), places=SimpleNamespace(tokens=1))
    admission = SimpleNamespace(queues={"some": queue}, questions={"some": SimpleNamespace(waiting=1)})
    edge = SimpleNamespace(in_flight=1, bodies=ByteBudget(1), outgoing=SimpleNamespace(budget=ByteBudget(1)))
    gauges.register(metrics, directory, admission, SimpleNamespace(is_degraded=False), edge)
    gauges.register_cache(metrics, to_cache(CacheSettings()))
    gauges.register_store(metrics, Store(StoreSettings()), Background(lambda: 1, lambda: 1))
    counts = LoadCounts(
        loads=Counter({("default", "ok"): 1}),
        seconds={("default",): 1.0},
        evictions=Counter({("default", "room"): 1}),
    )
    loads = SimpleNamespace(counts=counts, resident=lambda: {("default",): 1.0}, sizes=lambda: {("default",): 1.0})
    gauges.register_models(metrics, loads)
    gauges.register_keys(metrics, SimpleNamespace(snapshot=SimpleNamespace(keyring=Keyring())))
    counted = Counter(completed=1, failed=1)
    gauges.register_batches(metrics, SimpleNamespace(under_way=1, counts=counted, given_way=1))
    for instrument in vars(metrics).values():
        if isinstance(instrument, Tally):
            instrument.add(1, *instrument._labels)
        if isinstance(instrument, Distribution):
            instrument.record(0.1, *instrument._labels)
    return metrics.render()[0]


@pytest.fixture(scope="module")
def prometheus(exposition: bytes) -> Iterator[Prometheus]:
    """A Prometheus that scraped all metrics at least twice, so that it knows rates."""
    page = Page(exposition, content_type="text/plain; version=0.0.4")
    with serving({"/metrics": page}) as address, scraping(job(address)) as running:
        running.wait_for("count_over_time(llm_gateway_engine_up[1m]) > 1")
        yield running


def test_the_dashboard_and_the_gateway_have_the_same_metrics(exposition: bytes):
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
    query = VARIABLES["model"]["query"]["query"]
    [(metric, label)] = re.findall(r"^label_values\((\w+), (\w+)\)$", query)
    assert [sample.labels[label] for sample in prometheus.query(metric)] == ["some"]


def test_every_variable_in_use_is_defined():
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == set(VARIABLES)


def test_every_panel_takes_the_chosen_data_source_and_says_what_it_shows():
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["description"].endswith("."), panel["title"]


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    assert Counter(panel["id"] for panel in DASHBOARD["panels"]).most_common(1)[0][1] == 1
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) == 23


def test_the_data_source_chosen_at_first_is_provisioned():
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    chosen = VARIABLES["datasource"]["current"]["value"]
    (source,) = [source for source in sources if source["uid"] == chosen]
    assert source["isDefault"]
    assert source["type"] == VARIABLES["datasource"]["query"]
