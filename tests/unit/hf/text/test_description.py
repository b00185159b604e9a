"""A tokenizer's configuration is told in JSON's own types, and says nothing of the machine."""

import msgspec
import pytest
from transformers import AutoTokenizer

from gateway_hf.text.description import describe
from tests.support.tiny_models import CHAT_TEMPLATE, make_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny("llama", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_a_configuration_crosses_the_border_and_is_json(tokenizer):
    told = describe(tokenizer, CHAT_TEMPLATE)
    assert (
        msgspec.msgpack.decode(msgspec.msgpack.encode(told)) == msgspec.json.decode(msgspec.json.encode(told)) == told
    )
    assert told["tokenizer_class"] == type(tokenizer).__name__
    assert told["chat_template"] == CHAT_TEMPLATE
    assert told["eos_token"] == tokenizer.eos_token


def test_no_path_is_told(tokenizer, folder):
    assert str(folder) in str(tokenizer.init_kwargs)
    assert str(folder) not in str(describe(tokenizer, None))


def test_numbers_that_mean_no_limit_are_numbers_still(tokenizer, monkeypatch):
    monkeypatch.setitem(tokenizer.init_kwargs, "model_max_length", int(1e30))
    monkeypatch.setitem(tokenizer.init_kwargs, "a_class", object())
    told = describe(tokenizer, None)
    assert told["model_max_length"] == 1e30
    assert "a_class" not in told
    assert "chat_template" not in told or told["chat_template"] == tokenizer.init_kwargs["chat_template"]
