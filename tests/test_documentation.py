"""The pages say what holds: settings and their defaults, commands, links, and code that runs."""

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from gateway import config, engine

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("[a-z]*/**/*.md")])
    if ".venv" not in path.parts and ".pytest_cache" not in path.parts
}
CONFIG, HF, ECHO, COMMANDS = (
    PAGES[f"{folder}/README.md"] for folder in ("gateway/config", "plugins/hf", "plugins", "gateway/cli")
)
NONE = "none"
# A default that differs from engine to engine.
SAID_IN_WORDS = {"isolated": "the plugin's own"}

# Where code of each kind is run or read; a block of another language is a picture.
RUN = {
    "README.md": "e2e/test_readme.py: the clients, and the first request",
    "gateway/api/README.md": "e2e/test_readme.py: the requests",
    "gateway/auth/README.md": "e2e/test_keys.py: a key made, sent and limited",
    "plugins/README.md": "e2e/test_readme.py: the engine, written down, installed and held to the contract",
}
NOT_RUN = {
    ".github/CONTRIBUTING.md": "recipes that CI runs itself",
    "README.md": "the commands that set up and start, which CI has run to get here",
    "deploy/README.md": "needs a container engine; tests/deploy checks the files",
    "gateway/cli/bench/README.md": "takes minutes; e2e/test_bench.py runs the command on a small load",
    "tests/README.md": "the command that runs this",
}
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


class Setting(NamedTuple):
    """A setting, the page that tells of it, and its default."""

    name: str
    page: str
    default: object


def fields(kind: type[msgspec.Struct], page: str, prefix: str = "") -> list[Setting]:
    return [
        Setting(prefix + field.name, page, None if field.required else getattr(made, field.name))
        for made in (kind(**({"plugin": "hf"} if kind is config.EngineSettings else {})),)
        for field in msgspec.structs.fields(kind)
    ]


def settings() -> list[Setting]:
    """Every setting, the plugins' own too."""
    found = []
    for section in msgspec.structs.fields(config.Config):
        if section.name == "routes":
            found.append(Setting("routes", CONFIG, None))
        elif section.name not in ("engines", "warnings"):
            found += fields(section.type, CONFIG, f"{section.name}.")
    found += [each for each in fields(config.EngineSettings, CONFIG) if each.name not in ("plugin", "settings")]
    return found + fields(engine.load("hf").settings, HF) + fields(engine.load("echo").settings, ECHO)


def written(value: object) -> str:
    """Write a default as the tables do."""
    if value is None or (isinstance(value, msgspec.Struct) and value == type(value)()) or value == {}:
        return NONE
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`" if abs(value) < 1e6 else f"`{value}`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(list(value))}`"


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_every_setting_is_documented_with_its_default(setting):
    rows = re.findall(rf"^\| `{re.escape(setting.name)}` \| (.*?) \|", setting.page, re.MULTILINE)
    assert len(rows) == 1, f"{setting.name} has {len(rows)} rows"
    assert rows[0] == SAID_IN_WORDS.get(setting.name, written(setting.default))


def test_no_page_tells_of_a_setting_that_there_is_not():
    known = {setting.name for setting in settings()}
    for page in (CONFIG, HF, ECHO):
        for table in re.findall(r"\| setting \| default \|.*?\n((?:\|.*\n)+)", page):
            assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) <= known


@pytest.mark.parametrize("name", config.PLAIN)
def test_every_plain_name_is_documented(name):
    assert f"`{name}`" in CONFIG


@pytest.mark.parametrize("command", ["serve", "chat", "engines", "models", "check", "bench", "keys"])
def test_every_command_is_documented(command):
    assert f"`{command}`" in COMMANDS


def test_the_first_page_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 200


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as the hosting sites make them."""
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (ROOT / page).parent / path if path else ROOT / page
        assert to.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(to.resolve().relative_to(ROOT).as_posix()), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_code_is_run_by_a_test_or_left_out_for_a_reason(page):
    languages = {language for language, _ in FENCE.findall(PAGES[page])} & {"python", "sh", "javascript"}
    assert not languages or page in RUN.keys() | NOT_RUN.keys(), f"{page} has {languages}, which nothing runs"


@pytest.mark.parametrize("page", PAGES)
def test_the_configurations_and_answers_shown_can_be_read(page, tmp_path):
    for language, text in FENCE.findall(PAGES[page]):
        if language == "json":
            json.loads(text)
        if language == "toml" and "[project]" not in text:
            file = tmp_path / "gateway.toml"
            file.write_text(text if "[engines" in text else f'[engines.default]\nplugin = "echo"\n{text}')
            tomllib.loads(file.read_text())
            config.look(file)


@pytest.mark.parametrize("page", ["gateway/DECISIONS.md", "plugins/hf/DECISIONS.md"])
def test_a_decision_says_what_why_what_was_measured_and_what_would_change_it(page):
    _, *entries = re.split(r"^### ", PAGES[page], flags=re.MULTILINE)
    for entry in entries:
        assert re.findall(r"^- \*([\w ]+)\*: ", entry, re.MULTILINE) == [
            "Choice", "Because", "Measured", "Would change it"
        ], entry.partition("\n")[0]  # fmt: skip
