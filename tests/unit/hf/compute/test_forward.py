"""Forward passes over fitted tiny models: what they say is what the model says of each sequence by itself."""

import copy
from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.compute.packed import form_of
from gateway_hf.scheduling.scheduler import Chunk
from tests.support.hf_engine import numbers, read, scattered, seated
from tests.support.tiny_models import ARCHITECTURES, WINDOW

_BLOCKS = 40
_TOKENS = numbers(70)
# Whole; token by token at the end; cut within blocks, and into chunks that leave tokens pending.
_STEPS = [(), (67, 1, 1), (5, 30, 1, 16)]


@pytest.fixture(scope="session")
def model_of(tiny):
    """Say a tiny model, unchanged; tests leave it as it is."""
    return cache(lambda name: AutoModelForCausalLM.from_pretrained(tiny(name), dtype=torch.float32).eval())


@pytest.fixture(scope="session")
def fitted_of(model_of, kernels):
    """Say a tiny model's forward: with kernels, or without."""

    @cache
    def make(name, *, native=True):
        means = Means(_BLOCKS, kernels if native else None, form_of(torch.float32, "none"))
        return fit(lambda: copy.deepcopy(model_of(name)), means).forward

    return make


@torch.inference_mode()
def _expected(model, tokens, rows):
    return model(torch.tensor([tokens])).logits[0, rows]


def _close(found, expected):
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_sequence_in_steps_is_what_the_model_says_of_the_whole(fitted_of, model_of, name, native):
    assert len(_TOKENS) > 2 * WINDOW
    for steps in _STEPS:
        tables, _ = scattered([_BLOCKS * BLOCK])
        found = read(fitted_of(name, native=native), _TOKENS, tables[0], steps)
        _close(found[-1:], _expected(model_of(name), _TOKENS, [-1]))


@torch.inference_mode()
def _step(forward, *chunks):
    logits, counts = forward.logits([Chunk(*chunk) for chunk in chunks])
    return logits.split(counts)


@pytest.mark.parametrize("native", [True, False])
def test_others_in_the_batch_change_nothing(fitted_of, model_of, native):
    forward = fitted_of("llama", native=native)
    lengths = [50, 3, 33, 17]
    tables, _ = scattered(lengths)
    everyone = [seated(numbers(length, length), table) for length, table in zip(lengths, tables, strict=True)]
    _step(forward, *[(each, 2) for each in everyone])
    for each in everyone:
        each.computed = 2
    said = _step(forward, *[(each, each.pending) for each in everyone])
    for each, logits in zip(everyone, said, strict=True):
        _close(list(logits), _expected(model_of("llama"), each.tokens, [-1]))


@pytest.mark.parametrize("native", [True, False])
def test_a_step_that_wants_nothing_says_nothing(fitted_of, native):
    (nothing,) = _step(fitted_of("llama", native=native), (seated(numbers(40), [3, 1, 2]), 20))
    assert len(nothing) == 0


@pytest.mark.parametrize("native", [True, False])
def test_each_token_of_a_draft_is_answered_as_if_it_were_true(fitted_of, model_of, native):
    forward = fitted_of("llama", native=native)
    sequence = seated(_TOKENS[:31], [8, 5, 2])
    _step(forward, (sequence, 30))
    sequence.computed, sequence.draft = 30, _TOKENS[31:34]
    (said,) = _step(forward, (sequence, 4))
    _close(list(said), _expected(model_of("llama"), _TOKENS[:34], [30, 31, 32, 33]))


@pytest.mark.parametrize("native", [True, False])
def test_a_draft_that_was_wrong_leaves_no_trace(fitted_of, model_of, native):
    forward = fitted_of("llama", native=native)
    sequence = seated(_TOKENS[:31], [8, 5, 2])
    _step(forward, (sequence, 30))
    sequence.computed, sequence.draft = 30, [7, 7, 7]
    _step(forward, (sequence, 4))
    sequence.draft = []
    sequence.tokens += _TOKENS[31:33]
    (said,) = _step(forward, (sequence, 3))
    _close(list(said), _expected(model_of("llama"), _TOKENS[:33], [-1]))


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gpt2", "gemma2"])
def test_a_sequence_gets_the_same_bits_alone_and_in_company(fitted_of, name):
    forward = fitted_of(name)
    lengths = [41, 1, 20, 35, 16, 23, 2, 60]
    tables, _ = scattered(lengths)
    together = [seated(numbers(length, length), table) for length, table in zip(lengths, tables, strict=True)]
    said = [list(each) for each in _step(forward, *[(each, each.pending) for each in together])]
    for each in together:
        each.computed = len(each.tokens) - 1
    for at, last in enumerate(_step(forward, *[(each, 1) for each in together])):
        said[at] += last
    for each, found in zip(together, said, strict=True):
        alone = seated(each.tokens, each.blocks)
        (first,) = _step(forward, (alone, alone.pending))
        alone.computed = len(alone.tokens) - 1
        (last,) = _step(forward, (alone, 1))
        assert torch.equal(torch.cat([first, last]), torch.stack(found))


@torch.inference_mode()
@pytest.mark.parametrize("native", [True, False])
def test_blocks_of_a_poisoned_sequence_poison_nobody(fitted_of, native):
    forward = fitted_of("llama", native=native)
    expected = read(forward, _TOKENS, [0, 1, 2, 3, 4], (20, 7))
    cache = forward._attention.cache
    for layer in cache._layers.values():
        layer.fill_(torch.nan)
    found = read(forward, _TOKENS, [4, 0, 3, 1, 2], (20, 7))
    assert torch.equal(torch.stack(found), torch.stack(expected))


@pytest.mark.parametrize("native", [True, False])
def test_what_is_scored_has_the_logits_of_all_its_tokens(fitted_of, model_of, native):
    forward = fitted_of("llama", native=native)
    scored, plain = seated(_TOKENS, [8, 5, 2, 1, 0]), seated(numbers(20, 9), [3, 4])
    scored.ranks = 0
    first, beside = _step(forward, (scored, 30), (plain, 20))
    scored.computed, scored.scores = 30, [()] * 30
    (last,) = _step(forward, (scored, 40))
    assert (len(first), len(beside), len(last)) == (30, 1, 40)
    _close([*first, *last], _expected(model_of("llama"), _TOKENS, range(70)))
    _close(list(beside), _expected(model_of("llama"), plain.tokens, [-1]))
