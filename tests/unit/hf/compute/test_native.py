"""The kernels are built once, by whoever comes first, and their absence is one line."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from gateway.engine import LoadFailed, collect
from gateway_hf.compute import native
from gateway_hf.compute.native import NotBuiltError
from gateway_hf.engine import HfEngine
from gateway_hf.loading import weights
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings
from tests.support.hf_engine import ask

# A stand-in for a compiler: it writes what it is told to build by copying, slowly, and counts its runs.
_COMPILER = """#!{python}
import pathlib, sys, time
pathlib.Path({log!r}).open("a").write("built\\n")
content = pathlib.Path({built!r}).read_bytes()
with open(sys.argv[sys.argv.index("-o") + 1], "wb") as out:
    out.write(content[: len(content) // 2])
    out.flush()
    time.sleep({seconds})
    out.write(content[len(content) // 2 :])
"""
_LOAD = """
import pathlib, sys
from gateway_hf.compute import native
native.shutil.which = lambda _: sys.argv[1]
native.library(pathlib.Path(sys.argv[2])).kernels_free(None)
"""


@pytest.fixture(autouse=True)
def _forgotten():
    """Let no library of another test be remembered, nor one of these afterwards."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a compiler, and a cache folder that is empty."""
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    return tmp_path / "cache"


@pytest.fixture
def compiler(kernels, tmp_path):
    """A compiler that takes a moment; what it builds are the kernels at hand."""

    def make(seconds=0.0, built=kernels._library._name):
        script, log, copy = tmp_path / "c++", tmp_path / "log", tmp_path / "copy"
        shutil.copyfile(built, copy)  # what this process has opened, no other can open by that name
        values = {"python": sys.executable, "log": str(log), "built": str(copy), "seconds": seconds}
        script.write_text(_COMPILER.format(**values))
        script.chmod(0o755)
        log.touch()
        return str(script), log

    return make


def test_they_are_built_once_for_all_that_come_later(compiler, monkeypatch, tmp_path):
    script, log = compiler()
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    for _ in range(2):
        native.library(tmp_path / "deep" / "cache")
        native.library.cache_clear()
    assert log.read_text() == "built\n"
    assert len([*(tmp_path / "deep" / "cache").glob("kernels-*/kernels.so")]) == 1


def test_what_was_built_needs_no_compiler_any_more(kernels, monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda _: None)
    built = Path(kernels._library._name).resolve()
    assert Path(native.library(built.parent.parent)._name).resolve() == built


def test_another_source_or_processor_is_built_anew(compiler, monkeypatch, tmp_path):
    script, log = compiler()
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    native.library(tmp_path)
    monkeypatch.setattr(native, "processor_flags", lambda: frozenset({"another"}))
    native.library.cache_clear()
    native.library(tmp_path)
    assert log.read_text() == "built\n" * 2


def test_what_was_begun_is_waited_for(compiler, monkeypatch, tmp_path):
    script, log = compiler(seconds=0.3)
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    native.begin(tmp_path)
    native.begin(tmp_path)
    assert native.is_beginning(tmp_path)
    assert native.library(tmp_path) is native.library(tmp_path)
    assert not native.is_beginning(tmp_path)
    assert log.read_text() == "built\n"


def test_what_was_begun_and_failed_is_told_where_it_is_wanted(no_compiler):
    native.begin(no_compiler)
    for _ in range(2):
        with pytest.raises(NotBuiltError, match="no C\\+\\+ compiler"):
            native.library(no_compiler)


@pytest.mark.parametrize(("dtype", "written"), [("auto", "bfloat16"), ("float32", "float32")])
def test_a_file_is_converted_while_a_compiler_runs(monkeypatch, tmp_path, dtype, written):
    settings = Settings(model="builtin", dtype=dtype, threads=2, cache_folder=str(tmp_path))
    found = []

    def find(_, dtype):
        found.append(dtype)
        return Source(tmp_path, "builtin")

    monkeypatch.setattr(weights.sources, "find", find)
    weights._convert_meanwhile(settings, torch.device("cpu"))
    assert not found  # the kernels are there: what is fastest is known first
    monkeypatch.setattr(weights.native, "is_beginning", lambda _: True)
    weights._convert_meanwhile(settings, torch.device("cpu"))
    weights._convert_meanwhile(msgspec.structs.replace(settings, model="a/folder"), torch.device("cpu"))
    assert found == [getattr(torch, written)]


def test_without_a_compiler_there_are_none(no_compiler):
    with pytest.raises(NotBuiltError, match="no C\\+\\+ compiler"):
        native.library(no_compiler)


@pytest.mark.parametrize("broken", ["#include <no-such-header.h>", "int kernels_new( {"])
def test_a_source_that_does_not_build_is_one_line_that_says_where(monkeypatch, tmp_path, broken):
    if not any(map(native.shutil.which, native._COMPILERS)):
        pytest.skip("there is no C++ compiler")
    (tmp_path / "kernels.cpp").write_text(broken)
    monkeypatch.setattr(native, "_FOLDER", tmp_path)
    with pytest.raises(NotBuiltError, match=r"cannot build the kernels: .*kernels\.cpp:1") as caught:
        native.library(tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}


def test_where_they_cannot_be_kept_they_are_built_for_one_process(compiler, monkeypatch, tmp_path, caplog):
    script, log = compiler()
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    native.library(cache).kernels_free(None)
    assert f"for this process alone: the folder {cache}: Not a directory" in caplog.text
    native.library(cache)
    assert log.read_text() == "built\n"


def test_nowhere_to_build_them_is_one_line(compiler, monkeypatch, tmp_path):
    script, _ = compiler()
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    monkeypatch.setattr(native.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(NotBuiltError, match=r"cannot be built: .*No such file") as caught:
        native.library(tmp_path / "cache")
    assert "\n" not in str(caught.value)


def half(library):
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])


def flip(library):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def open_up(library):
    library.chmod(0o777)


def link(library):
    aside = library.rename(library.parent.parent / "aside.so")
    library.symlink_to(aside)


@pytest.mark.parametrize("damage", [half, flip, open_up, link])
def test_one_that_is_damaged_or_may_be_anothers_is_built_anew_and_named(compiler, tmp_path, damage):
    """In a process of its own: half a library is a bus error where it is loaded."""
    script, log = compiler()
    command = [sys.executable, "-c", _LOAD, script, str(tmp_path / "cache")]
    subprocess.run(command, check=True)
    (library,) = (tmp_path / "cache").glob("kernels-*/kernels.so")
    damage(library)
    told = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    assert f"{library.parent.name} in the cache folder is not used, and made anew: kernels.so" in told
    assert log.read_text() == "built\n" * 2


def test_a_compiler_that_never_ends_is_given_up(compiler, monkeypatch, tmp_path):
    script, _ = compiler(seconds=30)
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    monkeypatch.setattr(native, "_BUILD_SECONDS", 1)
    with pytest.raises(NotBuiltError, match="timed out"):
        native.library(tmp_path)
    assert not list(tmp_path.glob("*kernels-*"))


def test_what_cannot_be_loaded_is_one_line(compiler, monkeypatch, tmp_path):
    script, _ = compiler(built=__file__)
    monkeypatch.setattr(native.shutil, "which", lambda _: script)
    with pytest.raises(NotBuiltError, match="cannot be loaded") as caught:
        native.library(tmp_path)
    assert "\n" not in str(caught.value)


def test_half_a_file_is_never_seen_by_those_that_build_at_once(compiler, tmp_path):
    script, _ = compiler(seconds=0.3)
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", _LOAD, script, str(cache)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (built,) = cache.glob("kernels-*/kernels.so")
    ctypes.CDLL(str(built))


async def test_without_a_compiler_the_engine_serves_with_a_warning(tiny, no_compiler, caplog):
    folder = str(tiny("llama"))
    async with HfEngine(Settings(model=folder, dtype="float32")) as engine:
        expected = (await collect(engine.generate(ask()))).text
    settings = Settings(model=folder, dtype="float32", cache_folder=str(no_compiler))
    native.library.cache_clear()
    async with HfEngine(settings) as engine:
        assert (await collect(engine.generate(ask()))).text == expected
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "no C++ compiler" in warning
    assert "\n" not in warning


@pytest.mark.parametrize("why", ["compiler", "switched off", "format"])
def test_bytes_without_kernels_are_refused_in_one_line(tiny, no_compiler, why):
    settings = {
        "compiler": Settings(model=str(tiny("llama")), quantize="int8", cache_folder=str(no_compiler)),
        "switched off": Settings(model=str(tiny("llama")), quantize="int8", kernels="off"),
        "format": Settings(model=str(tiny("llama")), quantize="int8", dtype="float16", cache_folder=str(no_compiler)),
    }[why]
    with pytest.raises(LoadFailed, match="int8 needs the kernels") as caught:
        weights.load(settings)
    assert "\n" not in caught.value.message
