"""One sequence a pass: whatever a model keeps of what it read, it says what it says of the whole."""

from functools import cache

import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway.engine import EngineError
from gateway_hf.compute.serial import Reading, SerialForward
from gateway_hf.scheduling.scheduler import Chunk
from tests.architectures.tiny import configured, made
from tests.support.hf_engine import numbers, read, seated

_TOKENS = numbers(70)
_STEPS = [(), (67, 1, 1), (5, 30, 1, 16)]


@pytest.fixture(scope="session")
def model_of(tiny):
    """Say a tiny model, unchanged; tests leave it as it is."""
    return cache(lambda name: AutoModelForCausalLM.from_pretrained(tiny(name), dtype=torch.float32).eval())


@pytest.fixture(params=Reading, ids=lambda reading: reading.name)
def forward(request, model_of):
    return SerialForward(model_of("mistral"), request.param)


@pytest.fixture
def chunks(model_of):
    return SerialForward(model_of("mistral"), Reading.CHUNKS)


@torch.inference_mode()
def _expected(model, tokens, rows):
    return model(torch.tensor([tokens])).logits[0, rows]


def _close(found, expected):
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-4, atol=2e-3)


@torch.inference_mode()
def _step(forward, *chunks):
    logits, counts = forward.logits([Chunk(*chunk) for chunk in chunks])
    return logits.split(counts)


@pytest.mark.parametrize("steps", _STEPS)
def test_a_sequence_in_steps_is_what_the_model_says_of_the_whole(forward, model_of, steps):
    _close(read(forward, _TOKENS, [], steps)[-1:], _expected(model_of("mistral"), _TOKENS, [-1]))


def test_a_chunk_that_leaves_tokens_pending_wants_nothing(forward):
    one, other = seated(numbers(9), []), seated(numbers(5), [])
    logits, counts = forward.logits([Chunk(one, 4), Chunk(other, 5)])
    assert (len(logits), counts) == (1, [0, 1])


def test_a_step_of_chunks_that_want_nothing_says_nothing(forward):
    logits, counts = forward.logits([Chunk(seated(numbers(9), []), 4), Chunk(seated(numbers(7), []), 4)])
    assert (len(logits), counts) == (0, [0, 0])


def test_what_was_preempted_begins_anew(forward, model_of):
    sequence = seated(_TOKENS, [])
    _step(forward, (sequence, 70))
    sequence.computed = 0
    (said,) = _step(forward, (sequence, 70))
    _close(list(said), _expected(model_of("mistral"), _TOKENS, [-1]))


def test_what_was_read_in_a_pass_that_failed_is_not_read_twice(chunks, model_of):
    sequence = seated(_TOKENS, [])
    _step(chunks, (sequence, 40))
    sequence.computed = 40
    broken = seated([10**6], [])
    with pytest.raises(IndexError):
        _step(chunks, (sequence, 30), (broken, 1))
    (said,) = _step(chunks, (sequence, 30))
    _close(list(said), _expected(model_of("mistral"), _TOKENS, [-1]))


def test_what_was_forgotten_is_held_no_longer(forward):
    sequence = seated(numbers(9), [])
    _step(forward, (sequence, 9))
    forward.forget(sequence)
    forward.forget(sequence)
    assert not forward._states


def test_a_prompt_that_is_read_whole_is_read_in_one_pass_and_then_token_by_token(model_of, monkeypatch):
    model = model_of("mistral")
    passes = []
    step = SerialForward._step
    monkeypatch.setattr(
        SerialForward,
        "_step",
        lambda forward, tokens, state, kept: (
            passes.append((state.held, len(tokens))) or step(forward, tokens, state, kept)
        ),
    )
    for reading, expected in (
        (Reading.CHUNKS, [(0, 30), (30, 60), (60, 69), (69, 70)]),
        (Reading.WHOLE, [(0, 69), (69, 70)]),
        (Reading.ANEW, [(0, 69), (0, 70)]),
    ):
        forward, sequence = SerialForward(model, reading), seated(_TOKENS[:69], [])
        for size in (30, 30, 9):
            _step(forward, (sequence, size))
            sequence.computed += size
        sequence.tokens.append(_TOKENS[69])
        _step(forward, (sequence, 1))
        assert passes == expected, reading
        passes.clear()


def test_what_is_scored_has_the_logits_of_all_its_tokens(forward, model_of):
    scored, plain = seated(_TOKENS, []), seated(numbers(20, 9), [])
    scored.ranks = 0
    first, beside = _step(forward, (scored, 30), (plain, 20))
    scored.computed, scored.scores = 30, [()] * 30
    (last,) = _step(forward, (scored, 40))
    assert (len(first), len(beside), len(last)) == (30, 1, 40)
    _close([*first, *last], _expected(model_of("mistral"), _TOKENS, range(70)))
    _close(list(beside), _expected(model_of("mistral"), plain.tokens, [-1]))


def test_a_prompt_beyond_the_first_positions_is_scored_with_the_later_ones():
    model = made(_longrope("llama", 40))
    forward, sequence = SerialForward(model, Reading.WHOLE), seated(_TOKENS, [])
    sequence.ranks = 0
    (first,) = _step(forward, (sequence, 30))
    _close(list(first), _expected(model, _TOKENS, range(30)))


@pytest.mark.parametrize("size", [70, 69])
def test_a_model_that_says_nothing_of_a_prompt_cannot_score_it(size):
    forward = SerialForward(made(configured("xlnet")), Reading.WHOLE)
    sequence = seated(_TOKENS, [])
    sequence.ranks = 0
    with pytest.raises(EngineError, match="it cannot be scored"):
        _step(forward, (sequence, size))


def test_a_model_that_counts_positions_itself_is_given_none():
    model = made(configured("reformer", attn_layers=["local"] * 4))
    forward, sequence = SerialForward(model, Reading.WHOLE), seated(_TOKENS[:69], [])
    _step(forward, (sequence, 69))
    sequence.computed = 69
    sequence.tokens.append(_TOKENS[69])
    (last,) = _step(forward, (sequence, 1))
    _close(list(last), _expected(model, _TOKENS, [-1]))


@pytest.mark.parametrize(("kind", "suits"), [("openai-gpt", [Reading.ANEW]), ("llama", list(Reading))])
def test_a_model_that_takes_no_cache_is_always_read_anew(kind, suits):
    model = made(configured(kind))
    assert [reading for reading in Reading if reading.suits(model)] == suits


def _longrope(kind, original, **changes):
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": original}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [1.0 + at for at in range(8)]}
    return configured(kind, rope_parameters=rope, **changes)
