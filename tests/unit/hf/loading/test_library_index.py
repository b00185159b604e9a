"""The index of transformers' files is made once, and again where anything of it has changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils.import_utils import create_import_structure_from_path

from gateway_hf.loading import library_index
from gateway_hf.loading.library_index import KeptIndex

_IMPORTS = """
import sys
from pathlib import Path
from gateway_hf.loading.imports import import_transformers

import_transformers(Path(sys.argv[1]))
from transformers.utils import import_utils
index = import_utils.create_import_structure_from_path
assert type(index).__name__ == "KeptIndex"
def fail(asked): raise AssertionError(asked)
if sys.argv[2] == "again":
    assert index._make.cache_info().misses == 0
import transformers.models
from transformers import AutoConfig, LlamaForCausalLM
from transformers.models.llama import LlamaConfig
assert LlamaForCausalLM.config_class is LlamaConfig
if sys.argv[2] == "again":
    assert index._make.cache_info().misses == 0
"""
_NO_NAMES: frozenset[str] = frozenset()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Make a library of one model, whose record says its version; return the folder of its models."""
    models = tmp_path / "library" / "models"
    (models / "one").mkdir(parents=True)
    (models / "one" / "modeling_one.py").write_text('__all__ = ["One"]\n')

    class Installed:
        record = "1"
        place = tmp_path

        def read_text(self, name):
            return self.record if name == "RECORD" else None

        def locate_file(self, path):
            return self.place / path

    installed = Installed()
    monkeypatch.setattr(library_index, "distribution", lambda name: {"library": installed}[name])
    return models, installed


@pytest.fixture
def asked():
    return []


def _index(library, cache, asked):
    def make(folder):
        asked.append(folder)
        return {
            _NO_NAMES: {"top": {"Top"}},
            "one": {frozenset({"torch", "tokenizers"}): {"modeling_one": {"One", "Two"}}},
        }

    return KeptIndex(make, library[0], cache)


def test_a_second_process_reads_what_the_first_has_kept(library, tmp_path, asked):
    first = _index(library, tmp_path / "cache", asked)
    whole = first(library[0])
    assert len(asked) == 1
    second = _index(library, tmp_path / "cache", asked)
    assert second(str(library[0])) == second(library[0] / "__init__.py") == whole
    assert second(library[0] / "one") == whole["one"]
    assert len(asked) == 1


@pytest.mark.parametrize("change", ["version", "folder", "broken", "nonsense", "no record", "editable"])
def test_it_is_made_anew_where_it_may_be_another(library, tmp_path, asked, change):
    cache = tmp_path / "cache"
    _index(library, cache, asked)(library[0])
    models, installed = library
    (kept,) = cache.iterdir()
    if change == "version":
        installed.record = "2"
    elif change == "folder":
        os.utime(models, (1, 1))
    elif change == "no record":
        installed.record = None
    elif change == "editable":
        installed.place = tmp_path / "elsewhere"
    else:
        kept.write_bytes({"broken": kept.read_bytes()[:-3], "nonsense": b"\xc0"}[change])
    assert "one" in _index(library, cache, asked)(models)
    assert len(asked) == 2


def test_what_lies_elsewhere_is_not_kept(library, tmp_path, asked):
    index = _index(library, tmp_path / "cache", asked)
    index(tmp_path)
    index(library[0] / "unknown")
    assert asked == [tmp_path, str(library[0]), library[0] / "unknown"]


def test_a_folder_that_cannot_be_written_to_costs_the_time_alone(library, tmp_path, asked):
    (tmp_path / "cache").write_text("a file")
    assert "one" in _index(library, tmp_path / "cache", asked)(library[0])


def test_an_index_of_another_shape_is_not_kept(library, tmp_path):
    index = KeptIndex(lambda _: {("a", "tuple"): 1}, library[0], tmp_path / "cache")
    assert index(library[0]) == {("a", "tuple"): 1}
    assert not list((tmp_path / "cache").glob("*"))


def test_what_transformers_itself_makes_comes_back_the_same():
    folder = Path(sys.modules["transformers"].__file__).parent / "models" / "llama"
    made = create_import_structure_from_path(str(folder))
    assert library_index._unpacked(library_index._packed(made)) == made


def test_transformers_is_imported_with_the_kept_index_and_gives_the_same_names(tmp_path):
    for which in ("first", "again"):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTS, str(tmp_path), which],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not done.returncode, done.stderr
