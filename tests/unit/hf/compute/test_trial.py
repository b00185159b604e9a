"""The trial at load finds what a forward gets wrong, and only that."""

import pytest
import torch

from gateway_hf.compute.serial import Reading, SerialForward
from gateway_hf.compute.trial import Misfit, Trial, narrowed
from tests.architectures.tiny import WINDOW, configured, made


class Spoiled:
    """A forward that is wrong in one row of one step only."""

    def __init__(self, forward, step, row, spoil=lambda logits: logits.flip(-1)):
        self._forward = forward
        self._left = step
        self._row = row
        self._spoil = spoil
        self.forgotten = set()

    def logits(self, chunks):
        logits, counts = self._forward.logits(chunks)
        if self._left == 0 and len(logits):
            logits[self._row] = self._spoil(logits[self._row])
        self._left -= 1
        return logits, counts

    def forget(self, sequence):
        self.forgotten.add(sequence)
        self._forward.forget(sequence)


@pytest.fixture(scope="session")
def model():
    return made(configured("llama"))


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_agrees_with_itself(model, alone):
    for reading in Reading:
        Trial(model, alone=alone).check(SerialForward(model, reading), 1e-4, "here")


@pytest.mark.parametrize(("step", "row"), [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)])
def test_one_row_that_is_wrong_is_found(model, step, row):
    forward = Spoiled(SerialForward(model, Reading.WHOLE), step, row)
    with pytest.raises(Misfit, match=r"here it says something else \(off by"):
        Trial(model).check(forward, 0.5, "here")
    assert len(forward.forgotten) == 2


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_row_that_is_no_number_is_no_agreement(model, step):
    forward = Spoiled(SerialForward(model, Reading.WHOLE), step, 0, lambda logits: logits * torch.nan)
    with pytest.raises(Misfit):
        Trial(model).check(forward, 0.5, "here")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["jamba", "mamba", "zamba"])
def test_a_model_that_forgets_what_it_read_is_far_off_after_its_second_chunk(kind, dtype):
    model = made(configured(kind)).to(dtype)
    trial = Trial(model, alone=True)
    with pytest.raises(Misfit):
        trial.check(SerialForward(model, Reading.CHUNKS), 0.4, "here")
    trial.check(SerialForward(model, Reading.WHOLE), 1e-4, "here")


def test_what_a_models_files_say_of_sampling_has_no_say_in_the_trial(model):
    plain = Trial(model)
    own = model.generation_config
    model.generation_config = type(own)(
        do_sample=True, temperature=9.0, top_k=-1, repetition_penalty=5.0, eos_token_id=7
    )
    asked = model.generation_config
    try:
        with torch.random.fork_rng():
            sampled = Trial(model)
        assert model.generation_config is asked
    finally:
        model.generation_config = own
    assert torch.equal(plain._said, sampled._said)


def test_prompts_hold_no_token_that_stands_for_something_else():
    config = configured("llama", vocab_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config.image_token_id = 3
    drawn = {token for tokens in Trial(made(config))._tokens for token in tokens[:40]}
    assert drawn == {4, 5, 6, 7}


def test_windows_are_narrow_for_a_moment():
    moshi, llama = made(configured("moshi")), made(configured("llama"))
    with narrowed(moshi) as found:
        assert found
        assert moshi.config.sliding_window < WINDOW
    assert moshi.config.sliding_window == WINDOW
    with narrowed(llama) as found:
        assert not found


def test_a_window_that_a_model_keeps_to_in_its_cache_only_is_found_where_it_is_narrow():
    moshi = made(configured("moshi", sliding_window=3000))
    chunks = SerialForward(moshi, Reading.CHUNKS)
    Trial(moshi).check(chunks, 1e-3, "here")
    with narrowed(moshi), pytest.raises(Misfit):
        Trial(moshi).check(chunks, 1e-3, "here")
