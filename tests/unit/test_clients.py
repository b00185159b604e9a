"""The table of the clients that `just clients` runs."""

import re

import pytest

from tests.clients.table import CLIENTS, FOLDER, NODE, Client, NotInstalled


def test_every_script_is_in_the_table_and_every_row_has_its_script():
    shared = {"__init__.py", "__main__.py", "checks.py", "table.py"}
    scripts = {path.name for path in FOLDER.glob("*.*py")} | {path.name for path in FOLDER.glob("*.mjs")}
    assert {client.script for client in CLIENTS.values()} == scripts - shared


@pytest.mark.parametrize("package", [NODE, *(client.package for client in CLIENTS.values())])
def test_every_version_is_named(package):
    assert re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?(==|@)\d+\.\d+(\.\d+)?", package)


def test_what_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="uvx"):
        Client("openai_python.py", "openai==2.54.0").install(tmp_path)
