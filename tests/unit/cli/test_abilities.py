"""The table that says who can do what."""

import json

from gateway.cli import main as cli
from gateway.cli.abilities import to_table
from tests.support.pages import Page, serving


def test_a_row_for_each_capability_in_the_order_of_the_interface():
    table = to_table({"small": ("seed", "chat"), "large": ("of a newer gateway", "chat")})
    assert table.splitlines() == [
        "| can | `small` | `large` |",
        "| --- | --- | --- |",
        "| `chat` | yes | yes |",
        "| `seed` | yes |  |",
        "| `of a newer gateway` |  | yes |",
    ]


def test_the_table_of_a_running_gateway_has_a_column_for_each_engine(capsys):
    models = [
        {"id": "a", "engine": "one", "capabilities": ["chat"]},
        {"id": "b", "engine": "two", "capabilities": ["seed"]},
        {"id": "c", "engine": "two", "capabilities": []},
    ]
    page = Page(json.dumps({"data": models}).encode(), content_type="application/json")
    with serving({"/v1/models": page}) as address:
        assert cli.main(["models", "--table", "--url", f"http://{address}"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| can | `one` | `two: b` | `two: c` |"
    assert rows == ["| `chat` | yes |  |  |", "| `seed` |  | yes |  |"]
