"""The chart's values, their schema and their table say the same, and agree with the gateway; Helm is not needed."""

import json
import re

import jsonschema
import pytest
import yaml

from gateway import __version__
from gateway.config import ServerSettings
from tests.support.helm import CHART, EXAMPLES, defaults, value_schema
from tests.support.markdown import tables

# Values that are written as a whole: what is below them is not the chart's.
WHOLE = {"engines", "config", "resources", "podSecurityContext", "securityContext"}


def leaves(values, path=""):
    """List the paths of the values."""
    for key, value in values.items():
        here = f"{path}{key}"
        if isinstance(value, dict) and value and here not in WHOLE:
            yield from leaves(value, f"{here}.")
        else:
            yield here, value


def rows():
    """Map each value of the table to its default as written."""
    found = {}
    for row in tables((CHART / "README.md").read_text(), "value", "default", "meaning"):
        names = re.findall(r"`([\w.]+)`", row["value"])
        written = re.findall(r"`([^`]+)`|\b(none)\b", row["default"])
        texts = [code or "" for code, _ in written]
        if len(texts) == 1:
            texts *= len(names)
        found |= dict(zip(names, texts, strict=True)) if names[0] not in WHOLE else dict.fromkeys(names)
    return found


def test_the_table_has_every_value_and_its_true_default():
    expected = {
        name: None if name in WHOLE else value if isinstance(value, str) else json.dumps(value).replace('"', "")
        for name, value in leaves(defaults())
    }
    assert rows() == expected


def test_the_schema_has_every_value_and_no_other():
    """What has properties is closed, so that a misspelt value is refused, but for what becomes configuration."""

    def named(schema, path=""):
        for key, value in schema["properties"].items():
            here = f"{path}{key}"
            if "properties" in value and here not in WHOLE:
                assert value["additionalProperties"] is False, here
                yield from named(value, f"{here}.")
            else:
                yield here

    schema = value_schema()
    assert schema["additionalProperties"] is False
    assert {*named(schema)} - {"global"} == {name for name, _ in leaves(defaults())}


@pytest.mark.parametrize("name", ["values", "several", "stored", "gpu", "kuberay"])
def test_values_keep_to_the_schema(name):
    values = defaults() if name == "values" else yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    jsonschema.validate(values, value_schema())


def test_the_chart_is_at_the_version_of_the_gateway():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_what_the_chart_takes_for_granted_is_the_gateways_default():
    server = ServerSettings()
    assert defaults()["config"]["server"] == {
        "drain_seconds": server.drain_seconds,
        "notice_seconds": server.notice_seconds,
    }
    helpers = (CHART / "templates/_helpers.tpl").read_text()
    assert f"$server.hang_seconds | default {server.hang_seconds:g}" in helpers
    assert f"ternary {server.drain_seconds:g} $server.drain_seconds" in helpers
    assert f"ternary {server.notice_seconds:g} $server.notice_seconds" in helpers


def test_every_example_is_linked():
    page = (CHART / "README.md").read_text()
    assert [path.name for path in EXAMPLES.iterdir() if f"(examples/{path.name})" not in page] == []
