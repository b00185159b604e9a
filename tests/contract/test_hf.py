"""The Hugging Face engine keeps the contract, over a tiny random model and over one that writes what it was taught."""

import itertools
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.engine import Completion, load
from gateway.testing.contract import AnswerRules, EngineContract, Subject
from gateway.testing.contract.thoughts import ThoughtRules
from gateway_hf.loading import weights
from tests.support.hf_engine import unmeasured
from tests.support.tiny_models import CHAT_TEMPLATE, make_tiny

CONTEXT = 32_768
CUE = "A"
# No two tokens of it are the same, so each can be taught which one comes next.
WRITTEN = "é漢🙂"


@pytest.fixture(autouse=True)
def _choice(monkeypatch):
    """Choose a way to compute, and measure none."""
    monkeypatch.setattr(weights, "tune", unmeasured)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model with a context so long that it takes more than ten seconds to fill."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("tiny"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A model whose every token of the cue and the text is followed by the next one."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("taught"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    chain = [*tokenizer.encode(CUE + WRITTEN, add_special_tokens=False), tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain) > len(WRITTEN) + 3, "a character must take several tokens, all different"
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(chain):
            model.lm_head.weight[following] = model.model.embed_tokens.weight[token]
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """A random model whose template opens a thought, which it would never close."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("thinker"))
    (folder / "chat_template.jinja").write_text(
        CHAT_TEMPLATE.replace("assistant\n'", "assistant\n<think>\n'") + "{# </think> #}"
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


def make(folder):
    plugin = load("hf")
    return plugin.build(plugin.settings(model=str(folder), dtype="float32", threads=1))


class TestHf(EngineContract):
    slow_tokens = CONTEXT // 2

    @pytest.fixture
    def make_engine(self, tiny):
        return lambda: make(tiny)


class TestHfThatThinks(ThoughtRules):
    @pytest.fixture
    def make_engine(self, thinker):
        return lambda: make(thinker)


class TestHfThatWrites(Subject):
    written = WRITTEN
    test_a_character_is_never_torn = AnswerRules.test_a_character_is_never_torn
    test_the_bytes_of_the_tokens_are_the_text = AnswerRules.test_the_bytes_of_the_tokens_are_the_text

    @pytest.fixture
    def make_engine(self, taught):
        return lambda: make(taught)

    def prompt_for(self, answer):
        return Completion(CUE)
