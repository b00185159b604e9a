"""The pages say what holds: settings and their defaults, commands, folders, links, and code that is run somewhere."""

import json
import re
import shlex
from collections.abc import Callable
from functools import partial

import msgspec
import pytest
import yaml

from gateway import config, engine
from gateway.cli import main
from gateway.testing.contract import Subject
from tests.support.llama_child import LlamaChild
from tests.support.markdown import ROOT, Snippet, anchors, commands, links, pages, printed, prose, snippets, tables
from tests.test_house import LAYERS, PARTS

PAGES = pages()
SNIPPETS = [snippet for page, text in PAGES.items() for snippet in snippets(page, text)]
CONFIG, HF, ENGINES = "gateway/config/README.md", "plugins/hf/README.md", "plugins/README.md"
OPENAI = "plugins/openai/README.md"
RAY, LLAMACPP = "plugins/ray/README.md", "plugins/llamacpp/README.md"
NONE = "none"
# Defaults that differ from plugin to plugin, or are a long list.
IN_WORDS = {
    "isolated": "the plugin's own",
    "network": "the plugin's own",
    "routes.NAME.engines": "",
    "routes.NAME.shadow.engine": "",
    "base_url": "",
    "engine": "",
    "address": NONE,
    "app": NONE,
    "cors.headers": "those of the service and of both SDKs",
}

# Engines whose card is known without a model or a server, and their settings.
ABLE = {
    "echo": {},
    "openai": {"base_url": "http://127.0.0.1:9/v1", "server": "openai", "models": {"m": "m"}},
}

# Commands that no test runs, by their beginnings, and why.
NOT_RUN = {
    "pip install uv": "sets up the environment that the tests are in, as .ci/run does",
    "uv sync": "the same",
    "uv run pytest": "is these tests",
    "uv run just test": "the same",
    "uv run just slow": "the same, for longer",
    "uvx pre-commit": "needs a package that is not among the locked ones; tests/test_repository.py looks at its hooks",
    "ps ": "shows what the machine at hand runs",
    "docker ": "needs a container engine; tests/deploy parses the files",
    "helm ": "needs a cluster; tests/deploy renders the chart",
    "llm-gateway completion": "writes to the user's own files; unit/cli/test_completion.py runs what it prints",
}
# Python that is no program of its own: e2e/test_readme.py makes files of it.
FILES = ("plugin = Plugin(", "EngineContract")
# Files that are examples.
EXAMPLES = {"gateway/x/y.py", "unit/x/test_y.py", "src/hello_engine/__init__.py"}
LANGUAGES = {"sh", "python", "javascript", "toml", "json", "yaml", "text"}


def of(*languages: str) -> list[Snippet]:
    return [snippet for snippet in SNIPPETS if snippet.language in languages]


def where(snippet: object) -> str:
    return f"{snippet.page}:{snippet.line}" if isinstance(snippet, Snippet) else str(snippet)


def defaults(kind: Callable[[], msgspec.Struct], prefix: str = "") -> dict[str, object]:
    """Find the defaults of a struct by the names of its fields."""
    made = kind()
    return {prefix + field.name: getattr(made, field.name) for field in msgspec.structs.fields(made)}


def settings() -> dict[str, dict[str, object]]:
    """Find every setting and its default, by the page that documents it; the plugins' own settings too."""
    own = {f.name: f.type for f in msgspec.structs.fields(config.Config) if f.name not in ("engines", "warnings")}
    found = defaults(config.EngineSettings) | {"routes": {}}
    found |= defaults(partial(config.RouteSettings, engines=()), "routes.NAME.")
    found |= defaults(partial(config.ShadowSettings, engine=""), "routes.NAME.shadow.")
    for section in own.keys() - {"routes"}:
        found |= defaults(own[section], f"{section}.")
    plugins: dict[str, Callable[[], msgspec.Struct]] = {
        HF: engine.load("hf").settings,
        ENGINES: engine.load("echo").settings,
        OPENAI: partial(engine.load("openai").settings, base_url=""),
        LLAMACPP: engine.load("llamacpp").settings,
        RAY: partial(engine.load("ray").settings, engine=None),
    }
    return {CONFIG: found} | {page: defaults(kind) for page, kind in plugins.items()}


def written(value: object) -> str:
    """Write a default as the tables do."""
    if value is None or value == {} or (isinstance(value, msgspec.Struct) and value == type(value)()):
        return NONE
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize("name", ABLE)
async def test_the_table_of_capabilities_is_what_the_cards_say(name):
    """Those of `hf` and `llamacpp` are compared where the built-in model runs, in e2e and in contract."""
    plugin = engine.load(name)
    async with plugin.build(msgspec.convert(ABLE[name], plugin.settings)) as running:
        (card,) = running.models()
    assert able(name) == card.capabilities


def test_a_cluster_can_do_what_the_engine_in_its_replicas_can():
    """That its card is the other's is compared in contract/test_ray_hf.py."""
    assert able("ray") == able("hf")


async def test_the_column_of_llamacpp_is_its_card_of_the_built_in_model(tmp_path):
    """The child is a script; contract/test_llamacpp.py compares the card of a real one."""
    settings = engine.load("llamacpp").settings(binary=str(LlamaChild(tmp_path).program))
    async with engine.load("llamacpp").build(settings) as running:
        (card,) = running.models()
    assert able("llamacpp") == card.capabilities


def able(column: str) -> set[str]:
    """Find the capabilities that a column of the table has."""
    rows = tables(PAGES[ENGINES], "can", "`echo`", "`hf`", "`llamacpp`", "`openai`", "`ray`")
    return {row["can"].strip("`") for row in rows if row[f"`{column}`"] == "yes"}


@pytest.mark.parametrize("page", settings())
def test_every_setting_has_one_row_and_its_true_default(page):
    rows = [(row["key"].strip("`"), row["default"]) for row in tables(PAGES[page], "key", "default", "meaning")]
    expected = {key: IN_WORDS.get(key, written(default)) for key, default in settings()[page].items()}
    assert sorted(rows) == sorted(expected.items())


def test_the_facts_of_a_contracts_subject_are_documented():
    facts = {name: getattr(Subject, name) for name in Subject.__annotations__}
    rows = {row["fact"].strip("`"): row["default"] for row in tables(PAGES[ENGINES], "fact", "default", "meaning")}
    assert facts.keys() <= rows.keys()
    short = {name: written(value) for name, value in facts.items() if not isinstance(value, str)}
    assert {name: rows[name] for name in short} == short


def test_every_plain_name_leads_where_its_row_says():
    rows = tables(PAGES[CONFIG], "plain name", "key")
    assert {row["plain name"].strip("`"): row["key"].strip("`") for row in rows} == config.PLAIN
    assert [flag for flag in config.FLAGS if f"`{flag}`" not in PAGES[CONFIG]] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_page_names_exists(page):
    known = {*settings()[CONFIG]}
    sections = {key.partition(".")[0] for key in known if "." in key}
    named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", prose(PAGES[page]))
    assert {name for name in named if not name.endswith(("_py", ".py"))} - known <= {"server.py"}


def test_every_command_is_documented():
    page = PAGES["gateway/cli/README.md"]
    listed = {row["command"].strip("`") for row in tables(page, "command", "what it does")}
    (choices,) = (action.choices for action in main._parser()._actions if action.choices)
    assert listed == set(choices)


def test_the_endpoints_are_those_of_the_reference(service):
    described = service.client.get("/schema/openapi.json").json()["paths"].keys()
    rows = tables(PAGES["gateway/api/README.md"], "endpoint", "what it does")
    listed = {path for row in rows for path in re.findall(r"`(?:[A-Z]+ )?(/[^` ]*)`", row["endpoint"])}
    assert listed - {"/", "/schema", "/docs", "/redoc"} == described


def test_every_metric_that_the_page_names_is_on_a_dashboard():
    named = re.findall(r"`((?:llm_gateway|gen_ai)_\w+)`", PAGES["deploy/README.md"])
    dashboards = "\n".join(path.read_text() for path in ROOT.glob("deploy/grafana/dashboards/*.json"))
    assert [name for name in named if name not in dashboards] == []


def test_the_folders_are_documented_in_the_order_of_their_layers():
    rows = tables(PAGES["gateway/README.md"], "folder", "subject")
    listed = ["gateway." + re.findall(r"`(\w+)(?:/|[.]py)`", row["folder"])[0] for row in rows]
    assert sorted(listed) == sorted(LAYERS)
    for at, name in enumerate(listed):
        assert LAYERS[name] <= set(listed[:at]), name
    files = "".join(row["subject"] for row in rows)
    assert [file for file in PARTS if f"`{file.partition('.')[2]}.py`" not in files] == ["gateway.__main__"]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page):
    """A name begins at the root, or at the folder that the page is about."""
    told = "\n".join(
        [*re.findall(r"`([^`\n]+)`", prose(PAGES[page])), *(it.text for it in of("text") if it.page == page)]
    )
    bases = [ROOT, (ROOT / page).parent, ROOT / "gateway", ROOT / "plugins/hf", ROOT / "plugins/hf/gateway_hf"]
    for name in re.findall(r"(?<![\w/.-])((?:\.?[\w-]+/)+[\w.-]+\.(?:py|md|json|yaml|h))\b", told):
        assert name in EXAMPLES or any((base / name).exists() for base in bases), f"{page}: {name}"


def test_every_folder_of_the_tests_is_documented():
    rows = tables(PAGES["tests/README.md"], "folder", "what it shows", "tests", "time")
    listed = {name for row in rows for name in re.findall(r"`([\w.]+)`", row["folder"])}
    by_hand = {"architectures", "attack", "chaos", "clients", "fuzz", "image", "load", "scale", "soak", "support"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders == (listed | by_hand) - {name for name in listed if name.endswith(".py")}


def test_every_file_that_tests_share_is_documented():
    rows = tables(PAGES["tests/README.md"], "file of `support`", "what it gives")
    listed = [name for row in rows for name in re.findall(r"`([\w.]+)`", row["file of `support`"])]
    assert sorted(listed) == sorted(path.name for path in (ROOT / "tests" / "support").glob("*.py"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith("DECISIONS.md")])
def test_a_decision_says_what_why_and_until_when(page):
    for entry in re.split(r"^### ", PAGES[page], flags=re.MULTILINE)[1:]:
        title, _, body = entry.partition("\n")
        labels = re.findall(r"^- \*([\w ]+)\*: ", body, re.MULTILINE)
        assert labels == ["Choice", "Because", "Measured", "Would change it"], title


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in links(PAGES[page]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert to.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(PAGES[to.relative_to(ROOT).as_posix()]), f"{page}: {target}"


def test_every_page_is_linked_from_the_first_page_or_one_that_it_links():
    def linked(page):
        targets = {target.partition("#")[0] for target in links(PAGES[page]) if "://" not in target}
        return {((ROOT / page).parent / target).resolve().relative_to(ROOT).as_posix() for target in targets if target}

    first = linked("README.md") | {"README.md"}
    near = first.union(*(linked(page) for page in first & PAGES.keys()))
    assert {page for page in PAGES if not page.startswith(".github/PULL_REQUEST")} - near == set()


def recipes() -> list[str]:
    return re.findall(r"^([a-z]\w*)(?: [^:\n]*)?:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_the_recipes_that_a_page_names_exist(page):
    named = re.findall(r"`(?:uv run )?just ([a-z]\w*)", prose(PAGES[page]))
    assert set(named) <= set(recipes())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_speaks_of_things_and_not_of_whoever_meets_them(page):
    vague = r"\b(?:whoever|nobody|everybody|somebody|anybody)\b|(?:^|[.:;] |\| )Who\b"
    assert re.findall(vague, prose(PAGES[page]), re.MULTILINE) == []


def test_every_block_of_code_names_a_language_that_the_tests_know():
    assert {where(snippet): snippet.language for snippet in SNIPPETS if snippet.language not in LANGUAGES} == {}


def is_run_elsewhere(command: str) -> bool:
    """Say whether e2e/test_readme.py, which takes up every request and every use of a key, runs the command."""
    return command.startswith(("curl ", "export "))


@pytest.mark.parametrize("snippet", of("sh"), ids=where)
def test_every_command_of_the_pages_is_run_or_parsed_or_left_out_for_a_reason(snippet):
    for command in commands(snippet.text):
        words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words[:3] == ["uv", "run", "llm-gateway"]:
            main._parser().parse_args(main._command_first(words[3:]))
        elif words[:3] == ["uv", "run", "just"]:
            assert set(words[3:4]) <= set(recipes()), f"{where(snippet)}: {command}"
        else:
            assert is_run_elsewhere(command) or command.startswith(tuple(NOT_RUN)), f"{where(snippet)}: {command}"


@pytest.mark.parametrize("snippet", of("sh"), ids=where)
def test_a_variable_set_before_a_command_is_one_that_the_gateway_reads(snippet):
    for name in re.findall(r"^([A-Z_]+)=", snippet.text, re.MULTILINE):
        assert name in config.PLAIN


@pytest.mark.parametrize("snippet", of("python", "javascript"), ids=where)
def test_a_program_says_what_it_prints_unless_it_is_a_file_of_an_engine(snippet):
    """e2e/test_readme.py runs the programs and compares, and makes files of the others."""
    assert printed(snippet.text) or any(text in snippet.text for text in FILES)


@pytest.mark.parametrize("snippet", of("json"), ids=where)
def test_the_answers_shown_are_json(snippet):
    json.loads(snippet.text)


@pytest.mark.parametrize("snippet", of("yaml"), ids=where)
def test_yaml_is_yaml(snippet):
    assert yaml.safe_load(snippet.text)


@pytest.mark.parametrize("snippet", [it for it in of("toml") if "[project]" not in it.text], ids=where)
def test_the_configurations_shown_are_right(snippet, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(snippet.text)
    assert config.look(str(file)).warnings == ()
