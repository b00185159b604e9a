"""What lies around the source is true: versions, changelog, pages of .github, hooks, recipes and the workflow."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gateway import __version__

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(ROOT.glob(".github/**/*.md"))
JUST = shutil.which("just", path=Path(sys.executable).parent)


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


def test_the_packages_and_the_changelog_are_at_one_version():
    files = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    versions = {file: tomllib.loads(file.read_text())["project"]["version"] for file in files}
    newest = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", (ROOT / "gateway/CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert len(versions) == 6
    assert set(versions.values()) == {newest}
    assert __version__ == newest, "`uv sync` installs the version that the tree has"


def test_the_changelog_begins_with_what_is_unreleased_and_its_versions_fall():
    headings = re.findall(r"^## (\S+)", (ROOT / "gateway/CHANGELOG.md").read_text(), re.MULTILINE)
    numbers = [tuple(map(int, version.split("."))) for version in headings[1:]]
    assert headings[0] == "Unreleased"
    assert numbers == sorted(set(numbers), reverse=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_of_github_name_exists(page):
    text = page.read_text()
    named = re.findall(r"`((?:gateway|tests|plugins|deploy|\.ci)/[\w./-]+)`", text)
    linked = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    missing = [path for path in [*(ROOT / name for name in named), *linked] if not path.exists()]
    assert missing == []
    beside = set(re.findall(r"`(test_\w+\.py)`", text))
    assert beside <= {path.name for path in ROOT.glob("tests/**/test_*.py")}


def test_the_pages_name_recipes_that_there_are():
    dumped = subprocess.run([JUST, "--dump", "--dump-format", "json"], cwd=ROOT, capture_output=True, check=True).stdout
    recipes = json.loads(dumped)["recipes"]
    text = "\n".join(page.read_text() for page in PAGES) + (ROOT / ".ci/run").read_text()
    assert set(re.findall(r"uv run just ([a-z]\w*)", text)) <= set(recipes)
    assert [name for name, recipe in recipes.items() if not recipe["doc"]] == []


def test_the_workflow_does_what_ci_run_does_and_may_only_read():
    workflow = read(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}


def test_dependabot_looks_where_something_is_pinned():
    pinned = {
        "uv": "uv.lock",
        "github-actions": ".github/workflows/ci.yml",
        "docker": "Dockerfile",
        "docker-compose": "compose.yaml",
    }
    updates = read(".github/dependabot.yml")["updates"]
    for update in updates:
        assert (ROOT / update["directory"].strip("/") / pinned[update["package-ecosystem"]]).is_file()
        assert is_subject(f"{update['commit-message']['prefix']}: bump x from 1 to 2")
    assert {update["package-ecosystem"] for update in updates} == set(pinned)


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[!c]*.yml")), ids=lambda form: form.name)
def test_a_form_asks_each_thing_once(form):
    content = yaml.safe_load(form.read_text())
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert content["name"]
    assert content["description"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_pictures_are_small_and_shown():
    pictures = sorted((ROOT / "deploy/pictures").glob("*.png"))
    assert 0 < sum(picture.stat().st_size for picture in pictures) < 1_000_000
    shown = re.findall(r"\(pictures/(\S+)\)", (ROOT / "deploy/README.md").read_text())
    assert sorted(shown) == [picture.name for picture in pictures]


def hooks():
    return {hook["id"]: hook for repository in read(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]}


def is_subject(message):
    """Whether the hook lets a message through, as pre-commit's `pygrep` looks with `--multiline`."""
    return bool(re.search(hooks()["commit-subject"]["entry"], message, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    "message",
    [
        "auth: add a priority to API keys",
        "api, service: one exchange for all dialects\n\nA dialect is one folder.\n",
        "hf/compute: read a block once",
        "Merge branch 'main' into keys",
        'Revert "auth: add a priority to API keys"',
        "fixup! auth: add a priority to API keys",
    ],
)
def test_a_subject_with_its_area_passes(message):
    assert is_subject(message)


@pytest.mark.parametrize(
    "message",
    [
        "Let a key have a priority",
        "Auth: add a priority",
        "auth:add a priority",
        "auth: ",
        "auth: " + "long " * 30,
        "\nauth: add a priority",
        "Let a key have a priority\n\nauth: add a priority\n",
    ],
)
def test_a_subject_without_is_refused(message):
    assert not is_subject(message)


def test_the_hooks_run_what_the_project_has_and_fetch_nothing():
    assert {repository["repo"] for repository in read(".pre-commit-config.yaml")["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks().values()} == {"system", "pygrep"}
