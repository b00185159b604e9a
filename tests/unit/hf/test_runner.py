"""One forward at a time over a tiny real model."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway.engine import EngineError
from gateway_hf.runner import Runner
from gateway_hf.sequence import Sequence
from gateway_hf.terms import Terms
from tests.support.tiny_models import ARCHITECTURES

_GREEDY = Terms(limit=10, temperature=0.0)
_PROMPT = [5 + at * 7 % 300 for at in range(40)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request, tiny):
    return AutoModelForCausalLM.from_pretrained(tiny(request.param), dtype=torch.float32).eval()


@pytest.fixture
def runner(model):
    return Runner(model)


@torch.inference_mode()
def _logits(runner, chunks):
    sequence = Sequence(_PROMPT.copy())
    last = [runner._forward(sequence, tokens) for tokens in chunks][-1]
    assert sequence.pending == 0
    return last


@pytest.mark.parametrize("chunks", [[1] * 40, [39, 1], [7, 13, 20]])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(runner, model, chunks):
    torch.testing.assert_close(_logits(runner, chunks), _logits(runner, [40]), rtol=1e-4, atol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(_logits(runner, [40]), model(torch.tensor([_PROMPT])).logits[:, -1])


def test_only_the_last_position_becomes_logits(runner, model):
    shapes = []
    with model.get_output_embeddings().register_forward_hook(lambda *seen: shapes.append(seen[2].shape)):
        runner.advance(Sequence(_PROMPT.copy()), 40, _GREEDY)
    assert [shape[-2] for shape in shapes] == [1]


def test_nothing_is_drawn_while_tokens_are_pending(runner):
    sequence = Sequence(_PROMPT.copy())
    assert runner.advance(sequence, 39, _GREEDY) is None
    assert (sequence.computed, len(sequence.tokens)) == (39, 40)
    drawn = runner.advance(sequence, 1, _GREEDY)
    assert (sequence.computed, sequence.tokens[40:]) == (40, [drawn.id])


def test_what_was_forgotten_begins_anew(runner):
    sequence = Sequence(_PROMPT.copy())
    runner.advance(sequence, 40, _GREEDY)
    runner.forget(sequence)
    runner.forget(sequence)
    assert not runner._draws
    assert runner._caches.of(sequence).get_seq_length() == 0


def test_log_probabilities_are_those_of_the_unchanged_logits(runner, model):
    terms = Terms(limit=10, temperature=0.5, top_k=1, logprobs=3)
    drawn = runner.advance(Sequence(_PROMPT.copy()), 40, terms)
    with torch.inference_mode():
        expected = model(torch.tensor([_PROMPT])).logits[0, -1].log_softmax(-1)
    own, *top = drawn.logprobs
    assert own.id == drawn.id == int(expected.argmax())
    assert [each.id for each in top] == expected.topk(3).indices.tolist()
    assert [each.logprob for each in drawn.logprobs] == pytest.approx(
        [expected[each.id].item() for each in drawn.logprobs], abs=1e-4
    )


def test_logits_that_are_no_numbers_are_an_error(runner, monkeypatch):
    forward = runner._forward
    monkeypatch.setattr(runner, "_forward", lambda *args: forward(*args) * math.nan)
    with pytest.raises(EngineError, match="no valid probabilities"):
        runner.advance(Sequence(_PROMPT.copy()), 40, _GREEDY)


def test_a_model_that_gives_all_logits_is_read_at_the_last():
    class Everything(torch.nn.Module):
        config = None
        device = torch.device("cpu")

        def forward(self, input_ids, past_key_values, use_cache):
            return type("Output", (), {"logits": torch.nn.functional.one_hot(input_ids + 1, 64).float()})

    runner = Runner(Everything())
    runner._caches.of = lambda _: None
    assert runner.advance(Sequence([3, 4, 5]), 3, _GREEDY).id == 6
