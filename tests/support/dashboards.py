"""The dashboards of deploy/grafana: their panels, and what they ask Prometheus."""

import json
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
DASHBOARDS: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))
}


def panels(name: str) -> list[dict[str, Any]]:
    """List what a dashboard shows, without the titles of its rows."""
    return [panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row"]


def variables(name: str) -> dict[str, Any]:
    """Find the variables of a dashboard by their names."""
    return {variable["name"]: variable for variable in DASHBOARDS[name]["templating"]["list"]}


# Every expression, by where it stands.
TARGETS: dict[str, dict[str, str]] = {
    f"{name} {panel['id']} {panel['title']} {target['refId']}": target
    for name in DASHBOARDS
    for panel in panels(name)
    for target in panel["targets"]
}


def promql(target: dict[str, str], interval: str = "1m") -> str:
    """Put values in the place of Grafana's variables."""
    return target["expr"].replace("$__rate_interval", interval).replace("$model", ".*")
