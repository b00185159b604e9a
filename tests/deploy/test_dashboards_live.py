"""Every panel, recorded series and alias has live data: a real Prometheus scrapes a real service under load."""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.dashboards import TARGETS, promql
from tests.support.live_load import LiveLoad, live_load
from tests.support.observe import eventually
from tests.support.prometheus import RULES, Prometheus, job, path_of, scraping

pytestmark = pytest.mark.slow

PATIENCE = 120
ALL_RULES = [
    rule for file in RULES for group in yaml.safe_load(Path(file).read_text())["groups"] for rule in group["rules"]
]
RECORDED = [rule["record"] for rule in ALL_RULES if "record" in rule]
ALERTS = {f"{rule['alert']} {rule['labels']['severity']}": rule["expr"] for rule in ALL_RULES if "alert" in rule}
PAGE = (Path(__file__).parents[2] / "deploy/README.md").read_text()
# Those in the first column; the page names others that are not there.
ALIASES = [
    name for row in re.findall(r"^\| (`vllm:[^|]*)\|", PAGE, re.MULTILINE) for name in re.findall(r"vllm:\w+", row)
]
# The answers that a kind of traffic is there for, where it is not 200.
MEANT = {
    "fail": {502, 503},
    "exceed": {200, 504},
    "mistake": {400},
    "use_a_wrong_key": {401},
    "use_a_limited_key": {429},
    "die": {500, 503},
}
# Why a machine cannot show it, by a metric in the expression.
EXCUSED: dict[str, str] = {}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, LiveLoad]]:
    path_of("prometheus")
    with live_load(tmp_path_factory.mktemp("live")) as (service, load):
        scrape = job(
            f"127.0.0.1:{service.port}", job_name="llm-gateway", authorization={"credentials": load.keys["all"]}
        )
        with scraping(scrape, rules=RULES) as prometheus:
            yield prometheus, load


@pytest.fixture
def prometheus(live: tuple[Prometheus, LiveLoad]) -> Prometheus:
    return live[0]


def shows(prometheus: Prometheus, expression: str) -> bool:
    """Say whether an expression has a number now that a panel can draw; a quantile of nothing is none."""
    return any(math.isfinite(sample.value) for sample in prometheus.query(expression))


def must_show(prometheus: Prometheus, expression: str) -> None:
    """See an expression show something; skip with the reason where this machine has no such thing."""
    for metric, reason in EXCUSED.items():
        if metric in expression:
            pytest.skip(reason)
    eventually(lambda: shows(prometheus, expression), PATIENCE)


@pytest.mark.parametrize("title", TARGETS)
def test_every_panel_shows_something_under_load(title: str, prometheus: Prometheus):
    must_show(prometheus, promql(TARGETS[title]))


@pytest.mark.parametrize("name", RECORDED)
def test_every_series_is_recorded_under_load(name: str, prometheus: Prometheus):
    must_show(prometheus, name)


@pytest.mark.parametrize("name", ALIASES)
def test_every_name_of_vllm_has_a_series_under_load(name: str, prometheus: Prometheus):
    must_show(prometheus, f'{{__name__=~"{name}(_count)?"}}')


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_asks_for_what_is_there(alert: str, prometheus: Prometheus):
    for metric in set(re.findall(r"\b(?:up|(?:job(?:_model)?:)?(?:llm_gateway|gen_ai|process)_[\w:]+)", ALERTS[alert])):
        must_show(prometheus, metric)


def test_no_rule_fails_to_be_evaluated(prometheus: Prometheus):
    answer = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=10, trust_env=False).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == len(RECORDED) + len(ALERTS)
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_the_load_was_what_it_says(live: tuple[Prometheus, LiveLoad]):
    """Each kind was answered as it is meant to be, at least once: what only fails, or is only refused, is no load."""
    load = live[1]

    def missing() -> list[str]:
        return [kind for kind in load.kinds if not MEANT.get(kind, {200}) & {*load.statuses.get(kind, ())}]

    with contextlib.suppress(TimeoutError):
        eventually(lambda: not missing(), PATIENCE)
    assert missing() == []
