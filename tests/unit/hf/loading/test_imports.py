import subprocess
import sys
import types
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

import pytest

from gateway_hf.loading.imports import DeferredModule, _DeferringLoader

_IMPORTS = """
import sys
from gateway_hf.loading.imports import import_transformers

import_transformers()
import gateway_hf.engine
import torch
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaForCausalLM

parts = {"torch._inductor", "torch.distributed.tensor", "torch._dynamo.guards"}
assert not parts & sys.modules.keys(), parts & sys.modules.keys()
"""
_COMPILES = """
shape = dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
ids = torch.arange(9)[None]
plain = model(ids).logits
assert "torch._dynamo.guards" not in sys.modules
compiled = torch.compile(model, backend="eager")(ids).logits
assert "torch._dynamo.guards" in sys.modules
assert torch.equal(plain, compiled)
assert torch._dynamo.disable.__module__.startswith("torch.")
"""


def _run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr


def test_what_only_compilers_and_many_devices_need_is_left_out():
    _run(_IMPORTS)


@pytest.mark.slow
def test_a_model_can_be_compiled_all_the_same():
    _run(_IMPORTS + _COMPILES)


_COLLECTS = """
import gc, sys
from gateway_hf.loading.imports import first_imports

before, rarely = gc.get_threshold(), []
with first_imports():
    rarely.append(gc.get_threshold())
    import transformers
assert rarely[0] > before == gc.get_threshold()
assert gc.get_freeze_count() > 10_000
gc.unfreeze()
with first_imports():
    assert gc.get_threshold() == before
assert gc.get_freeze_count() == 0
"""


def test_the_first_imports_collect_garbage_rarely_and_later_ones_as_ever():
    _run(_COLLECTS)


@pytest.fixture
def deferred(tmp_path: Path) -> types.ModuleType:
    code = "ran = [__name__]\ndisable = 'its own'\nassert 'missing' not in globals()\n"
    (tmp_path / "__init__.py").write_text(code)
    loader = SourceFileLoader("late", str(tmp_path / "__init__.py"))
    module = types.ModuleType("late")
    module.__spec__ = ModuleSpec("late", loader)
    _DeferringLoader(loader).exec_module(module)
    return module


def test_a_deferred_module_runs_once_asked(deferred: types.ModuleType):
    assert isinstance(deferred, DeferredModule)
    assert deferred.disable("as it is") == "as it is"
    assert deferred.disable(recursive=False)("as it is") == "as it is"
    assert not hasattr(deferred, "__wrapped__")
    assert "ran" not in vars(deferred)
    assert deferred.ran == ["late"]
    assert deferred.disable == "its own"


def test_a_deferred_module_has_no_more_than_its_code_makes(deferred: types.ModuleType):
    with pytest.raises(AttributeError, match="module 'late' has no attribute 'missing'"):
        _ = deferred.missing
    assert deferred.ran == ["late"]
