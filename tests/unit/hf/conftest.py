"""Real tokenizers, models and kernels for the engine's tests; what takes long is made once, in the cache folder."""

from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from gateway_hf.compute.kernels import Kernels
from gateway_hf.compute.native import NotBuiltError
from gateway_hf.golden import check
from gateway_hf.loading import weights
from gateway_hf.settings import Settings, cache_folder
from gateway_hf.text.codec import TextCodec
from tests.support.hf_engine import builtin_folder, unmeasured
from tests.support.tiny_models import make_tiny

_numbers = count()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Say the folder of a tiny model by its architecture; tests leave it as it is."""
    return cache(lambda architecture: make_tiny(architecture, tmp_path_factory.mktemp(architecture)))


@pytest.fixture(autouse=True)
def _choice(monkeypatch):
    """Choose a way to compute, and measure none."""
    monkeypatch.setattr(weights, "tune", unmeasured)


@pytest.fixture(autouse=True)
def _golden(monkeypatch, tmp_path_factory):
    """Store what models say apart: one that a test has changed must not be what others are compared with."""
    folder = tmp_path_factory.getbasetemp() / f"golden-{next(_numbers)}"
    monkeypatch.setattr(check, "cache_folder", lambda settings: Path(settings.cache_folder or folder))


@pytest.fixture(autouse=True)
def _threads():
    """Let torch compute in one thread, and put the number back, which belongs to the whole process.

    Two for a tiny model wait for each other at the end of each operation: long where tests run on each core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def kernels():
    """The kernels, built at most once into the cache folder of engines; skipped only where there is no compiler."""
    try:
        return Kernels(cache_folder(Settings()), 2)
    except NotBuiltError as error:
        if "no C++ compiler" not in str(error):
            raise
        pytest.skip(f"no kernels: {error}")


@pytest.fixture(scope="session")
def tokenizer_of(tiny):
    """Say the tokenizer of a tiny architecture, or of `builtin`."""
    return cache(lambda name: AutoTokenizer.from_pretrained(builtin_folder() if name == "builtin" else tiny(name)))


@pytest.fixture(scope="session")
def codec_of(tokenizer_of):
    return cache(lambda name: codec(tokenizer_of(name)))


def codec(tokenizer, context_window=8192):
    return TextCodec(tokenizer, vocabulary=len(tokenizer), context_window=context_window)
