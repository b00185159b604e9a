"""The interface is exactly what `gateway.engine` exports, and stands on nothing else of the gateway."""

import ast
import subprocess
import sys
from pathlib import Path

import gateway.engine

FOLDER = Path(gateway.engine.__file__).parent

LOADED = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name for name in set(sys.modules) - before}}))
"""


def loaded_by(module):
    shown = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], check=True, capture_output=True, text=True
    )
    return set(shown.stdout.split())


def imported_names():
    tree = ast.parse((FOLDER / "__init__.py").read_text())
    return [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def test_all_lists_exactly_what_is_imported():
    assert sorted(gateway.engine.__all__) == sorted(imported_names())
    assert len(set(gateway.engine.__all__)) == len(gateway.engine.__all__)


def test_all_is_sorted():
    assert gateway.engine.__all__ == sorted(gateway.engine.__all__)


def test_every_public_class_and_function_of_the_folder_is_exported():
    public = {
        node.name
        for path in FOLDER.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    assert public <= set(gateway.engine.__all__)


def test_the_interface_imports_nothing_else_of_the_gateway():
    ours = {name for name in loaded_by("gateway.engine") if name.startswith("gateway")}
    assert {name for name in ours if not name.startswith("gateway.engine")} == {"gateway"}


def test_the_interface_brings_only_msgspec_and_what_that_brings():
    foreign = {name.partition(".")[0] for name in loaded_by("gateway.engine")} - sys.stdlib_module_names
    assert {name for name in foreign if not name.startswith("_")} == {"gateway", "msgspec", "typing_extensions"}


def test_the_fakes_bring_no_test_library():
    names = loaded_by("gateway.testing.scripted")
    assert not names & {"pytest", "_pytest", "pytest_asyncio"}
    assert {name for name in names if name.startswith("gateway.") and not name.startswith("gateway.engine")} == {
        "gateway.testing",
        "gateway.testing.judge",
        "gateway.testing.keeping",
        "gateway.testing.scripted",
        "gateway.testing.script",
        "gateway.testing.words",
    }
