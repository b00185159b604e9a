"""Import torch and transformers without parts that serve training, compiling and several devices.

A process that computes answers never runs them, and they are half of the time that it takes to import transformers.
"""

import gc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway_hf.loading.library_index import KeptIndex

_COMPILER = "torch._dynamo"
# The one module of it that is wanted by itself, for masks.
_ALONE = f"{_COMPILER}._trace_wrapped_higher_order_op"
# How code asks that package to compile a function otherwise, or not at all. Where nothing is compiled they say nothing.
_MARKS = ("allow_in_graph", "assume_constant_result", "disable")
_LOADER = "_deferred_loader"
# What transformers asks itself, and leaves code out where it hears no: a model runs in one process here.
_QUESTION = "is_torch_distributed_available"
# The module and the function that read all files of transformers' models for the names in them.
_INDEXER, _INDEX = "transformers.utils.import_utils", "create_import_structure_from_path"
_loading = threading.RLock()
# Objects that are made before the youngest are looked through, and how much rarer older ones are: code stays.
_THRESHOLD = (20_000, 20, 100)


def import_transformers(cache: Path | None = None) -> None:
    """Import transformers, and torch with it; a process that has imported them before loses nothing.

    The index that it makes of its files is kept in the folder `cache`.
    """
    if "transformers" in sys.modules:
        return
    if _COMPILER not in sys.modules:
        sys.meta_path.insert(0, _DeferringFinder())
    if cache is not None:
        sys.meta_path.insert(0, _IndexingFinder(cache))
    importlib.import_module("transformers.utils")
    for module in ("transformers.utils.import_utils", "transformers.utils"):
        if hasattr(sys.modules[module], _QUESTION):
            setattr(sys.modules[module], _QUESTION, _no)


@contextmanager
def first_imports() -> Iterator[None]:
    """Collect garbage rarely while transformers is imported inside, and pass over from then on what was imported.

    Where it was imported before, nothing is done.
    """
    if "transformers" in sys.modules:
        yield
        return
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.freeze()


def _no() -> bool:
    return False


class DeferredModule(ModuleType):
    """A package whose own code runs when the first name of it is asked for."""

    def run(self) -> None:
        """Run the package's own code, unless it has run or runs; waits for another thread that runs it."""
        with _loading:
            # The code itself, while it runs in this thread, finds what it has made so far.
            loader: Loader | None = self.__dict__.pop(_LOADER, None)
            if loader is not None:
                loader.exec_module(self)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as a module's attributes are
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # whoever walks over all modules asks for these
        self.run()
        if name in self.__dict__:
            return self.__dict__[name]
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'", name=name, obj=self)


class _DeferringLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(dict.fromkeys(_MARKS, _mark))
        module.__dict__[_LOADER] = self._loader
        module.__class__ = DeferredModule


class _DeferringFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.startswith(f"{_COMPILER}.") and name != _ALONE:
            return _found_behind(name)
        if name != _COMPILER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader)
        return spec


class _IndexingFinder(MetaPathFinder):
    """Has the module that makes the index of transformers keep it in a folder."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _INDEXER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _IndexingLoader(spec.loader, self._cache)
        return spec


class _IndexingLoader(Loader):
    def __init__(self, loader: Loader, cache: Path) -> None:
        self._loader = loader
        self._cache = cache

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if module.__file__ is not None and hasattr(module, _INDEX):
            models = Path(module.__file__).parent.parent / "models"
            setattr(module, _INDEX, KeptIndex(getattr(module, _INDEX), models, self._cache))


class _ThereLoader(Loader):
    """Gives a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        del spec
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _found_behind(name: str) -> ModuleSpec | None:
    """Run the package of a submodule first, as its imports go round in circles; none where that did not import it."""
    package = sys.modules.get(_COMPILER)
    if isinstance(package, DeferredModule):
        package.run()
    found = sys.modules.get(name)
    return None if found is None else ModuleSpec(name, _ThereLoader(found), is_package=hasattr(found, "__path__"))


def _mark(function: Callable[..., Any] | None = None, *_: object, **__: object) -> Any:  # noqa: ANN401 - a decorator's
    """Return the function as it is, or a decorator that does."""
    return _mark if function is None else function
