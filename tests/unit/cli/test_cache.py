import json

import pytest

from gateway import config
from gateway.cli import main as cli
from gateway.engine import DiskCache


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = DiskCache(tmp_path / "llm-gateway")
    for name in ("model-1", "model-2"):
        (made.folder / name).mkdir(parents=True)
        (made.folder / name / "weights").write_bytes(bytes(3 << 20))
    return made


def test_the_cache_of_the_configured_engines_is_listed(cache, capfd):
    hold = cache.hold(cache.folder / "model-2")
    assert cli.main(["cache", "list"]) == 0
    head, columns, *rows = capfd.readouterr().out.splitlines()
    assert head == f"{cache.folder}: 6 MiB"
    assert columns.split() == ["name", "size", "last", "used"]
    assert [(row.split()[0], "in use" in row) for row in rows] == [("model-2", True), ("model-1", False)]
    hold.close()


def test_the_cache_is_listed_as_json_too(cache, capfd):
    assert cli.main(["cache", "list", "--json"]) == 0
    (found,) = json.loads(capfd.readouterr().out)
    assert found["folder"] == str(cache.folder)
    assert {entry["name"]: entry["in_use"] for entry in found["entries"]} == {
        entry.path.name: entry.in_use for entry in cache.entries()
    }


def test_clearing_removes_what_no_service_uses_and_says_what_stays(cache, capfd):
    hold = cache.hold(cache.folder / "model-2")
    assert cli.main(["cache", "clear"]) == 0
    said = capfd.readouterr().out
    assert f"{cache.folder}: removed 3 MiB\n" in said
    assert "model-2 stays: a running service uses it" in said
    assert [path.name for path in cache.folder.iterdir()] == ["model-2"]
    hold.close()


def test_only_what_is_named_is_cleared(cache):
    assert cli.main(["cache", "clear", "model-1"]) == 0
    assert [path.name for path in cache.folder.iterdir()] == ["model-2"]


def test_a_name_that_there_is_not_is_refused_before_anything_is_removed(cache, capfd):
    assert cli.main(["cache", "clear", "model-1", "nope"]) == 2
    assert "the cache has no 'nope'" in capfd.readouterr().err
    assert len(list(cache.folder.iterdir())) == 2


def test_a_folder_can_be_named(cache, tmp_path, capfd):
    assert cli.main(["cache", "list", "--folder", str(tmp_path / "other")]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'other'}: 0 B\n"


def test_an_engine_without_a_cache_has_none(cache, monkeypatch, capfd):
    monkeypatch.setenv("ENGINE", "echo")
    assert cli.main(["cache", "list"]) == 0
    assert capfd.readouterr().out == ""
