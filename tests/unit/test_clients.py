"""The table of the clients that `just clients` runs."""

import re
import subprocess

import pytest

from tests.clients.table import CLIENTS, FOLDER, NODE, Client, NotInstalled


def test_every_script_is_in_the_table_and_every_row_has_its_script():
    shared = {"__init__.py", "__main__.py", "checks.py", "checks.mjs", "table.py"}
    scripts = {path.name for path in FOLDER.glob("*.*py")} | {path.name for path in FOLDER.glob("*.mjs")}
    assert {client.script for client in CLIENTS.values()} == scripts - shared


PACKAGES = {package for client in CLIENTS.values() for package in (client.package, *client.beside)}


@pytest.mark.parametrize("package", sorted({NODE} | PACKAGES))
def test_every_version_is_named(package):
    assert re.fullmatch(r"(@[a-z-]+/)?[a-z0-9-]+(\[[a-z]+\])?(==|@)\d+\.\d+(\.\d+)?", package)


def test_what_cannot_be_installed_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalled, match="uvx"):
        Client("openai_python.py", "openai==2.54.0").install(tmp_path)


def test_packages_beside_are_installed_with_the_one_that_it_is_about(tmp_path, monkeypatch):
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_options: commands.append(list(command)))
    command = Client("ai_sdk.mjs", "ai@1.2.3", ("zod@4.5.6",)).install(tmp_path)
    assert commands[0][-2:] == ["ai@1.2.3", "zod@4.5.6"]
    assert {path.name for path in tmp_path.iterdir()} == {"ai_sdk.mjs", "checks.mjs"}
    assert command[-1] == str(tmp_path / "ai_sdk.mjs")
    python = Client("openai_python.py", "openai==1.2.3", ("pydantic==4.5.6",)).install(tmp_path)
    assert python[3:7] == ["--with", "openai==1.2.3", "--with", "pydantic==4.5.6"]
