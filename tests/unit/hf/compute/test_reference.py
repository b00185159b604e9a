"""What `generate()` said is kept for the next start, and can only confirm."""

import pytest
import torch

from gateway_hf.compute import trial
from gateway_hf.compute.fitting import Means, fit
from gateway_hf.compute.reference import ReferenceAnswers
from gateway_hf.compute.trial import TRIAL_BLOCKS
from tests.architectures.tiny import configured, made


@pytest.fixture
def asked(monkeypatch):
    """The prompts that `generate()` was asked for."""
    prompts, generated = [], trial._generated
    monkeypatch.setattr(trial, "_generated", lambda model, each: prompts.append(each) or generated(model, each))
    return prompts


def _fit(known, model="llama"):
    return fit(lambda: made(configured(model)), Means(TRIAL_BLOCKS, None, None, known=known))


def test_a_second_start_asks_nothing(tmp_path, asked):
    known = ReferenceAnswers(tmp_path / "made", {"model": "a"})
    assert _fit(known).batched
    assert len(asked) == 1
    assert _fit(known).batched
    assert len(asked) == 1
    assert _fit(ReferenceAnswers(tmp_path / "made", {"model": "b"})).batched
    assert len(asked) == 2


def test_what_another_model_said_refuses_nothing(tmp_path, asked):
    known = ReferenceAnswers(tmp_path, {"model": "a"})
    _fit(known)
    tokens, logits = known.find(asked[0])
    known.keep(tokens, logits.flip(-1))
    assert _fit(known).batched
    assert len(asked) == 2
    assert _fit(ReferenceAnswers(tmp_path, {"model": "a"})).batched
    assert len(asked) == 2


@pytest.mark.parametrize("content", [b"", b"no such format", b"\0" * 64])
def test_a_broken_file_is_passed_by(tmp_path, asked, content):
    known = ReferenceAnswers(tmp_path, {"model": "a"})
    _fit(known)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(content)
    assert known.find(asked[0]) is None
    assert _fit(known).batched
    assert len(asked) == 2
    assert known.find(asked[0]) is not None


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path, asked):
    file = tmp_path / "file"
    file.touch()
    assert _fit(ReferenceAnswers(file, {"model": "a"})).batched
    assert len(asked) == 1


def test_other_prompts_are_asked(tmp_path, asked):
    known = ReferenceAnswers(tmp_path, {"model": "a"})
    _fit(known)
    assert known.find(asked[0]) is not None
    assert known.find(asked[0].flip(-1)) is None
    assert known.find(asked[0][:1]) is None


def test_answers_too_large_are_not_kept(tmp_path):
    known = ReferenceAnswers(tmp_path, {"model": "a"})
    known.keep(torch.zeros(2, 44, dtype=torch.int64), torch.empty(4, 2, 2 << 20))
    assert not list(tmp_path.iterdir())
