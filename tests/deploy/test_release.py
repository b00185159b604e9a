"""A release is whole or is none: versions, lock, changelog, packages, commit and tag, in a copy of this tree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy import release
from gateway import __version__

ROOT = Path(__file__).parents[2]
CHANGELOG = "gateway/CHANGELOG.md"
NEXT = "999.0.0"


def run(folder, *command, **environment):
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )


def git(folder, *arguments):
    done = run(folder, "git", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path):
    """This tree as it stands, in a repository of its own with one commit."""
    for needed in ("git", "uv"):
        if not shutil.which(needed):
            pytest.skip(f"no {needed}")
    folder = tmp_path / "tree"
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("this tree is no checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@example.org")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "gateway: begin")
    return folder


def make(folder, version, **environment):
    return run(folder, sys.executable, "deploy/release.py", version, **environment)


def news(folder, text="\n### Added\n\n- Something new.\n"):
    """Have the changelog say this of what is unreleased, and commit it."""
    file = folder / CHANGELOG
    head, _, tail = file.read_text().partition(release.HEADING)
    versions = tail[tail.index("\n## ") :]
    file.write_text(f"{head}{release.HEADING}{text}{versions}")
    git(folder, "commit", "--quiet", "--all", "--allow-empty", "--message", "gateway: write the changelog")


def test_what_was_unreleased_gets_its_version_and_its_day():
    text = "# Changelog\n\n## Unreleased\n\n### Added\n\n- News.\n\n## 0.1.0 - 2026-01-01\n\nOld.\n"
    dated = release.dated(text, "0.2.0", "2026-02-02")
    assert dated == text.replace("## Unreleased\n", "## Unreleased\n\n## 0.2.0 - 2026-02-02\n")


@pytest.mark.parametrize("text", ["# Changelog\n", "## Unreleased\n\n\n## 0.1.0 - 2026-01-01\n\nOld.\n"])
def test_a_changelog_without_news_is_refused(text):
    with pytest.raises(release.Refused, match="nothing under `## Unreleased`"):
        release.dated(text, "0.2.0", "2026-02-02")


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "1.0.0rc1", "01.0.0", "", "1.0.0\n", "one"])
def test_what_is_no_version_is_refused(version, tmp_path):
    with pytest.raises(release.Refused, match="is no version"):
        release.check(tmp_path, version)


@pytest.mark.parametrize("version", ["0.0.1", __version__])
def test_a_version_that_is_not_newer_is_refused(tree, version):
    done = make(tree, version)
    assert done.returncode == 1
    assert done.stderr == f"release: {version} is not newer than llm-gateway {__version__}\n"


def test_ten_is_newer_than_nine():
    assert release._numbers("0.10.0") > release._numbers("0.9.9")


@pytest.mark.parametrize("name", ["README.md", "a-new-file"])
def test_a_tree_with_changes_is_refused(tree, name):
    with (tree / name).open("a") as file:
        file.write("more")
    done = make(tree, NEXT)
    assert done.returncode == 1
    assert "the tree has changes" in done.stderr
    assert name in done.stderr


def test_a_tag_that_exists_is_refused(tree):
    git(tree, "tag", f"v{NEXT}")
    done = make(tree, NEXT)
    assert done.returncode == 1
    assert done.stderr == f"release: the tag v{NEXT} exists\n"


def test_a_step_that_fails_leaves_the_tree_as_it_was(tree, tmp_path):
    """The lock cannot be made where the registry is not reached and nothing is kept of it."""
    news(tree)
    before = git(tree, "rev-parse", "HEAD")
    done = make(tree, NEXT, UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "`uv lock` failed; nothing was changed" in done.stderr
    assert git(tree, "status", "--porcelain") == ""
    assert (git(tree, "rev-parse", "HEAD"), git(tree, "tag")) == (before, "")


@pytest.fixture
def released(tree):
    news(tree)
    done = make(tree, NEXT)
    if "`uv lock` failed" in done.stderr:
        pytest.skip("no package registry is reached")
    assert done.returncode == 0, done.stderr
    return tree


@pytest.mark.slow
def test_a_release_is_committed_tagged_and_built_and_its_wheels_run(released, tmp_path):
    assert git(released, "log", "-1", "--format=%s") == f"gateway: release {NEXT}"
    assert git(released, "cat-file", "-t", f"v{NEXT}") == "tag"
    assert git(released, "rev-parse", f"v{NEXT}^{{commit}}") == git(released, "rev-parse", "HEAD")
    assert git(released, "status", "--porcelain") == ""
    changed = set(git(released, "show", "--name-only", "--format=", "HEAD").splitlines())
    projects = {
        "pyproject.toml",
        "plugins/echo/pyproject.toml",
        "plugins/hf/pyproject.toml",
        "plugins/llamacpp/pyproject.toml",
        "plugins/openai/pyproject.toml",
        "plugins/ray/pyproject.toml",
    }
    assert changed == {*projects, "uv.lock", CHANGELOG, "deploy/helm/Chart.yaml"}
    assert set(re.findall(r"^(?:v|appV)ersion: (.+)$", (released / release.CHART).read_text(), re.MULTILINE)) == {NEXT}
    assert set(release.versions(released).values()) == {NEXT}
    locked = {
        package["name"]: package["version"] for package in tomllib.loads((released / "uv.lock").read_text())["package"]
    }
    assert {locked[name] for name in release.versions(released)} == {NEXT}
    assert re.search(
        rf"^## Unreleased\n\n## {NEXT} - \d{{4}}-\d\d-\d\d\n\n### Added\n\n- Something new\.\n",
        (released / CHANGELOG).read_text(),
        re.MULTILINE,
    )
    for module in (
        "gateway",
        "plugins/echo/gateway_echo",
        "plugins/hf/gateway_hf",
        "plugins/llamacpp/gateway_llamacpp",
        "plugins/openai/gateway_openai",
        "plugins/ray/gateway_ray",
    ):
        tracked = git(released, "ls-files", module).splitlines()
        expected = {name.removeprefix(f"{module}/") for name in tracked if not name.endswith(".md")}
        assert packed(released / "dist", module.rpartition("/")[2]) == expected
    wheels_run(released / "dist", tmp_path)


def packed(dist, module):
    """List the files of a module that its wheel brings."""
    (wheel,) = dist.glob(f"llm_gateway{module.removeprefix('gateway')}-{NEXT}-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    return {name.removeprefix(f"{module}/") for name in files if ".dist-info/" not in name}


def wheels_run(dist, tmp_path):
    """Install the wheels as a user would, in an environment of their own, and have them say what they are."""
    gateway, echo, hf = (
        str(dist / f"{name}-{NEXT}-py3-none-any.whl") for name in ("llm_gateway", "llm_gateway_echo", "llm_gateway_hf")
    )
    environment = {"VIRTUAL_ENV": str(tmp_path / "venv"), "ENGINE": "echo"}
    for command in (
        ["uv", "venv", "--quiet", environment["VIRTUAL_ENV"]],
        ["uv", "pip", "install", "--quiet", gateway, echo],
        ["uv", "pip", "install", "--quiet", "--no-deps", hf],
    ):
        done = run(tmp_path, *command, **environment)
        assert done.returncode == 0, done.stderr
    scripts = tmp_path / "venv" / "bin"
    assert "usage: llm-gateway" in run(tmp_path, scripts / "llm-gateway", "--help").stdout
    assert run(tmp_path, scripts / "llm-gateway", "--version").stdout.split()[-1] == NEXT
    assert run(tmp_path, scripts / "llm-gateway", "check", **environment).returncode == 0
    listed = run(tmp_path, scripts / "llm-gateway", "engines", **environment).stdout
    assert "echo" in listed
