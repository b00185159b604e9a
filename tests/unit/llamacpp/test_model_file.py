"""The model's file and the program are found, or a line says what is missing and how to get it."""

import sys
from types import ModuleType

import pytest

from gateway.engine import LoadFailed
from gateway_llamacpp import model_file
from gateway_llamacpp.model_file import find_model, find_program
from gateway_llamacpp.settings import Settings


@pytest.fixture
def _bare(monkeypatch, tmp_path):
    """A machine with no `llama-server`, neither on the PATH nor in a package."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(model_file, "_PACKAGE", "no_such_package")


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("_bare")
def test_a_missing_program_is_one_line_that_says_what_to_install():
    with pytest.raises(LoadFailed) as failure:
        find_program(Settings())
    for word in ("llama-server", "PATH", "`binary`", "uv sync --extra llamacpp"):
        assert word in failure.value.message
    assert "\n" not in failure.value.message


@pytest.mark.usefixtures("_bare")
def test_a_program_on_the_path_comes_before_that_of_the_package(monkeypatch, tmp_path):
    package = ModuleType("a_package_of_llama")
    package.__file__ = str(tmp_path / "package" / "__init__.py")
    packaged = program(tmp_path / "package" / "bin" / "llama-server")
    package.__spec__ = type("Spec", (), {})()
    monkeypatch.setitem(sys.modules, "a_package_of_llama", package)
    monkeypatch.setattr(model_file, "_PACKAGE", "a_package_of_llama")
    assert find_program(Settings()) == packaged
    found = program(tmp_path / "nothing" / "llama-server")
    assert find_program(Settings()) == found


def test_the_setting_names_the_program_or_is_refused(tmp_path):
    named = program(tmp_path / "mine")
    assert find_program(Settings(binary=named)) == named
    with pytest.raises(LoadFailed, match="`binary`"):
        find_program(Settings(binary=str(tmp_path / "other")))


def test_a_file_that_is_not_there_is_said_without_its_folder(tmp_path):
    with pytest.raises(LoadFailed, match=r"'small\.gguf' does not exist") as failure:
        find_model(Settings(model=str(tmp_path / "small.gguf")))
    assert str(tmp_path) not in failure.value.message


def test_a_model_has_the_name_of_its_file_or_the_one_it_is_given(tmp_path):
    path = tmp_path / "small.Q4_K_M.gguf"
    path.touch()
    assert find_model(Settings(model=str(path))).name == "small.Q4_K_M"
    assert find_model(Settings(model=str(path), served_name="mine")).name == "mine"


def test_the_built_in_model_is_that_of_the_package():
    found = find_model(Settings())
    assert found.path.suffix == ".gguf"
    assert "builtin" in found.aliases
    assert found.defaults.temperature == 0.2
