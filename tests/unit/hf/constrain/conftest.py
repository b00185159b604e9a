"""Vocabularies to constrain with: the tiny Llama's, and one of a token a byte that needs no model."""

from functools import cache, partial

import pytest
from llguidance import LLTokenizer, TokenizerWrapper

from gateway_hf.constrain.compiler import Compiler
from gateway_hf.constrain.nursery import do
from gateway_hf.constrain.vocabulary import read_vocabulary
from gateway_hf.text.codec import backend

EOS = 256


class _Bytes:
    eos_token_id = EOS
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(EOS)), b"\xff<eos>")
    special_token_ids = (EOS,)

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


@pytest.fixture(scope="session")
def by_bytes():
    """A vocabulary whose tokens are the bytes, and the end."""
    return LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=EOS + 1, eos_token=EOS, slices=[])


@pytest.fixture
def compiler(by_bytes):
    """A compiler that has its jobs done in this process."""
    return Compiler(by_bytes, {EOS}, partial(do, tokenizer=by_bytes))


@pytest.fixture(scope="session")
def vocabulary_of(tokenizer_of):
    """Say the vocabulary of a tiny architecture, or of `builtin`."""
    return cache(lambda name: _read(tokenizer_of(name)))


def _read(tokenizer):
    return read_vocabulary(backend(tokenizer), len(tokenizer), {tokenizer.eos_token_id})
