"""The house rules that a program can check."""

import ast
import collections
import re
import statistics
from pathlib import Path

import pytest

from gateway import config
from gateway.app import create_app
from tests.support.service import Service

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("gateway/**/*.py"), *ROOT.glob("plugins/*/gateway_*/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/*.py"))

TOP = {"gateway", "plugins", "tests", "deploy", "justfile", "pyproject.toml", "uv.lock", "README.md", "LICENSE"}

# What each part of the gateway may import of it, beside itself and its version: an arrow up would be a circle.
STORES = {"gateway.engine", "gateway.flow"}
RULES = STORES | {"gateway.admission", "gateway.auth", "gateway.cache", "gateway.limits", "gateway.store"}
ENGINES = {"gateway.config", "gateway.isolation", "gateway.linux", "gateway.supervisor", "gateway.telemetry"}
LAYERS = {
    "gateway.engine": set(),
    "gateway.linux": set(),
    "gateway.testing": {"gateway.engine"},
    "gateway.flow": {"gateway.engine"},
    "gateway.limits": STORES,
    "gateway.cache": STORES,
    "gateway.store": STORES,
    "gateway.admission": STORES | {"gateway.linux"},
    "gateway.auth": STORES | {"gateway.limits"},
    "gateway.isolation": STORES | {"gateway.linux"},
    "gateway.config": RULES,
    "gateway.telemetry": {"gateway.engine", "gateway.config"},
    "gateway.supervisor": STORES | {"gateway.config", "gateway.isolation", "gateway.linux"},
    "gateway.hosting": RULES | ENGINES,
    "gateway.service": RULES | ENGINES | {"gateway.hosting"},
    "gateway.api": RULES | ENGINES | {"gateway.hosting", "gateway.service"},
    "gateway.app": RULES | ENGINES | {"gateway.hosting", "gateway.service", "gateway.api"},
    "gateway.cli": RULES | {"gateway.config", "gateway.supervisor"},
}
# What a plugin takes from another: conversations are written, and their answers read, in one way.
KIN = {"gateway_llamacpp": tuple(f"gateway_openai.{name}" for name in ("answer", "frames", "messages", "profiles"))}
# Files in the root that belong to a part.
PARTS = {
    "gateway.__main__": "gateway.cli",
    "gateway.background": "gateway.service",
    "gateway.inflight": "gateway.service",
    "gateway.questions": "gateway.service",
    "gateway.server": "gateway.app",
    "gateway.acceptor": "gateway.app",
}

# Tests in tests/unit that are named for no module, and why.
OF_NO_MODULE = {
    "cli/bench/test_output.py": "a table, its notes, its progress and its plot show the same results",
    "isolation/test_border.py": "client and server, at both ends of one socket",
    "test_clients.py": "the table of tests/clients",
    "test_peers.py": "the table and the load of tests/load/peers",
    "test_search.py": "the searches of tests/attack and tests/fuzz, which must end",
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(name: str) -> str:
    """The part of the gateway that a dotted name belongs to; the package itself holds only its version."""
    folder = ".".join(name.split(".")[:2])
    return PARTS.get(folder, folder if folder in LAYERS else "gateway")


def functions(path: Path):
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def length(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "gateway")], ids=str)
def test_every_import_points_down(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = part(name)
    for imported in imports(path):
        if imported.split(".")[0] == "gateway":
            assert part(imported) in LAYERS.get(own, set()) | {own, "gateway"}, f"{name} imports {imported}"


def test_every_file_of_the_gateway_belongs_to_a_part():
    names = {f"gateway.{path.stem}" for path in (ROOT / "gateway").iterdir() if path.suffix == ".py"}
    names |= {f"gateway.{path.parent.name}" for path in (ROOT / "gateway").glob("*/__init__.py")}
    assert names - LAYERS.keys() - PARTS.keys() <= {"gateway.__init__", "gateway.__pycache__"}
    assert len(LAYERS) <= 18


def test_a_dialect_is_known_by_its_folder_and_its_word_in_the_routes():
    """Tokens and vectors are asked for in OpenAI's words; nothing else knows a dialect by name."""
    worded = {"gateway.api.tokens", "gateway.api.embeddings"}
    dialects = {f"gateway.api.{name}" for name in ("native", "openai", "anthropic", "responses")}
    shared = {f"gateway.api.{name}" for name in ("http", "exchange", "reference")}
    for path in (ROOT / "gateway").rglob("*.py"):
        own = "gateway.api." + path.relative_to(ROOT / "gateway" / "api").parts[0] if "api" in path.parts else ""
        used = {".".join(name.split(".")[:3]) for name in imports(path) if name.startswith("gateway.api.")} - {own}
        if own in dialects:
            assert used <= shared, path
        elif path.name != "routes.py":
            assert used & dialects <= ({"gateway.api.openai"} if own in worded else set()), path


def test_plugins_import_only_the_plugin_interface():
    for path in ROOT.glob("plugins/*/gateway_*/**/*.py"):
        own = path.relative_to(ROOT / "plugins").parts[1]
        foreign = {name for name in imports(path) if name.split(".")[0].startswith("gateway")}
        known = ("gateway.engine", own, *KIN.get(own, ()))
        assert {name for name in foreign if not name.startswith(known)} == set(), path


def test_the_top_level_holds_nothing_else():
    listed = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert listed - TOP == set()


def test_files_and_functions_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {str(path): lines for path, lines in lengths.items() if lines > 300} == {}
    assert statistics.median(lengths.values()) <= 120
    bodies = {f"{path.name}:{node.name}": length(node) for path in SOURCES for node in functions(path)}
    assert {name: lines for name, lines in bodies.items() if lines > 60} == {}
    assert statistics.median(bodies.values()) <= 10


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def aliases(path: Path) -> list[str]:
    """The types that a module names by an assignment."""
    names = []
    for node in ast.parse(path.read_text()).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if name[0].isupper() and not name.isupper()]


def test_classes_are_short():
    assert {node.name: length(node) for path in SOURCES for node in classes(path) if length(node) > 200} == {}


def test_no_two_classes_share_a_name():
    """Nor does an alias share one with a class or with another alias. Every plugin names its settings `Settings`."""
    homes = collections.defaultdict(list)
    for path in SOURCES:
        for name in [*(node.name for node in classes(path)), *aliases(path)]:
            homes[name].append(path.relative_to(ROOT).as_posix())
    shared = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert {name: paths for name, paths in shared.items() if name != "Settings"} == {}


def test_the_root_of_the_gateway_is_small():
    assert len([*ROOT.glob("gateway/*.py")]) <= 9


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_tests_outweigh_the_source():
    source = sum(len(path.read_text().splitlines()) for path in SOURCES)
    tests = sum(len(path.read_text().splitlines()) for path in TESTS)
    shipped = sum(len(path.read_text().splitlines()) for path in ROOT.glob("gateway/testing/**/*.py"))
    assert tests + shipped >= 1.2 * (source - shipped)


def mirrored(test: Path) -> Path:
    """The folder of the source that a file of tests/unit is about."""
    first, *rest = test.parent.relative_to(ROOT / "tests" / "unit").parts or ("",)
    plugin = ROOT / "plugins" / first / f"gateway_{first}"
    return Path(plugin, *rest) if first and plugin.is_dir() else Path(ROOT / "gateway", first, *rest)


def test_unit_tests_mirror_the_tree():
    """A test is named for a module of the folder that it mirrors, or for the folder; `_` and an aspect may follow."""
    unit = ROOT / "tests" / "unit"
    strangers = set()
    for test in unit.rglob("test_*.py"):
        folder, name = mirrored(test), test.stem.removeprefix("test_")
        modules = {path.stem for path in folder.glob("*") if path.suffix == ".py" or (path / "__init__.py").exists()}
        if name not in {*modules, test.parent.name} and not name.startswith(tuple(f"{module}_" for module in modules)):
            strangers.add(test.relative_to(unit).as_posix())
    assert strangers == set(OF_NO_MODULE)


def test_only_config_reads_the_environment():
    for path in SOURCES:
        if not path.is_relative_to(ROOT / "gateway" / "config"):
            assert not re.search(r"os\.(environ|getenv)", path.read_text()), path


def docstrings(path: Path) -> list[tuple[str, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    return [(getattr(node, "name", path.stem), ast.get_docstring(node) or "") for node in nodes]


def test_docstrings_have_an_ordinary_subject():
    """The actor is a caller, a client, an engine, not *who* or *nobody*; the thing has a name, and is not *what is*."""
    pronoun = re.compile(
        r"\b(whoever|nobody|somebody|anybody|everybody)\b"
        r"|\bwho\b"
        r"|(?:^|[.;:] )(?:what is|what was)\b",
        re.IGNORECASE | re.MULTILINE,
    )
    for path in SOURCES:
        assert [name for name, text in docstrings(path) if pronoun.search(text)] == [], path


def test_names_say_what_things_are():
    vague = re.compile(r"(Manager|Handler|Helper|Util|Base|Impl|Data|Info)$")
    for path in SOURCES:
        names = [node.name for node in classes(path)]
        assert [name for name in names if vague.search(name)] == [], path
        assert not {"utils", "core", "common", "helpers"} & set(path.with_suffix("").parts), path


def test_every_route_is_tested():
    app = create_app(config.read(flags={config.PLAIN["ENGINE"]: "echo"}))
    text = "\n".join(path.read_text() for path in TESTS)
    for route in app.routes:
        pattern = re.sub(r"\\\{[^}]*\\\}", r"[^/\\s\"']+", re.escape(route.path))
        assert re.search(rf"{pattern}(?![\w/])", text), f"no test names {route.path}"


def test_every_gateway_metric_is_on_the_dashboard(service: Service):
    dashboards = "\n".join(path.read_text() for path in ROOT.glob("deploy/grafana/**/*.json"))
    families = set(
        re.findall(r"^# TYPE (llm_gateway_\w+|gen_ai_\w+) ", service.client.get("/metrics").text, re.MULTILINE)
    )
    assert {name for name in families if name not in dashboards} == set()
