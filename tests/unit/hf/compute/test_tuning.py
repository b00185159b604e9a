"""What is measured at the first start, chosen, and remembered."""

import logging
import time

import msgspec
import pytest
import torch

from gateway_hf.compute import tuning
from gateway_hf.compute.tuning import Candidates, ComputeChoice, tune

_OPEN = Candidates(("bfloat16", "float32"), (2, 1), (True, False))


class Clock:
    """Times that are scripted by candidate; counts how often it was asked."""

    def __init__(self, **micros):
        self.micros, self.asked = micros, 0

    def __call__(self, dtype, kernels):
        self.asked += 1
        how = "kernels" if kernels else "torch"
        return [self.micros.get(f"{str(dtype).removeprefix('torch.')}_{how}", 100.0)] * 2


@pytest.fixture
def timed(monkeypatch):
    def use(**micros):
        clock = Clock(**micros)
        monkeypatch.setattr(tuning, "_times", clock)
        monkeypatch.setattr(tuning, "Kernels", lambda *_: object())
        monkeypatch.setattr(tuning, "_own_part", lambda _: 1.0)
        return clock

    return use


def test_the_fastest_is_chosen(timed, tmp_path):
    timed(float32_torch=20.0)
    chosen = tune("m", _OPEN, tmp_path)
    assert (chosen.dtype, chosen.threads, chosen.kernels) == ("float32", 2, False)


def test_one_measurement_beside_other_programs_is_enough_to_measure_again(timed, tmp_path, monkeypatch):
    clock, parts = timed(float32_torch=20.0), iter([1.0, 0.5, 0.5, 0.5])
    monkeypatch.setattr(tuning, "_own_part", lambda _: next(parts, 1.0))
    for _ in range(2):
        clock.asked = 0
        tune("m", _OPEN, tmp_path)
        assert clock.asked


def test_a_measurement_beside_other_programs_is_made_again(timed, tmp_path, monkeypatch):
    clock, parts = timed(float32_torch=20.0), iter([0.5, 0.5])
    monkeypatch.setattr(tuning, "_own_part", lambda _: next(parts, 1.0))
    first = tune("m", _OPEN, tmp_path)
    assert clock.asked == len(first.micros) + 2
    assert tune("m", _OPEN, tmp_path) == first
    assert clock.asked == len(first.micros) + 2


def test_a_little_faster_is_noise_and_the_likelier_candidate_stays(timed, tmp_path):
    timed(float32_torch=95.0)
    assert tune("m", _OPEN, tmp_path).dtype == "bfloat16"


def test_what_is_measured_beside_other_programs_is_measured_again_and_leaves_no_core_alone(
    timed, tmp_path, monkeypatch, caplog
):
    clock = timed(float32_torch=20.0)
    monkeypatch.setattr(tuning, "_own_part", lambda _: 0.5)
    one_first = Candidates(("bfloat16", "float32"), (2, 1), (True, False))
    for _ in range(2):
        clock.asked = 0
        chosen = tune("m", one_first, tmp_path)
        assert (chosen.dtype, chosen.threads, chosen.kernels) == ("float32", 2, False)
        assert clock.asked
    assert "other programs compute as well: what is fastest here is measured again at the next start" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_process_that_sleeps_had_no_processor():
    begun = tuning._clocks()
    time.sleep(0.2)
    assert tuning._own_part(begun) < 0.8


def test_what_was_measured_is_remembered_for_each_model(timed, tmp_path):
    clock = timed()
    first = tune("m", _OPEN, tmp_path)
    asked = clock.asked
    assert tune("m", _OPEN, tmp_path) == first
    assert clock.asked == asked == len(first.micros)
    tune("other", _OPEN, tmp_path)
    assert clock.asked == 2 * asked


def test_the_log_says_that_it_measures_and_only_a_debugger_what(timed, tmp_path, caplog):
    timed(float32_torch=20.0)
    with caplog.at_level(logging.DEBUG, "gateway_hf"):
        tune("m", _OPEN, tmp_path)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert told[0] == "measuring what computes fastest here (once, about 5 s)"
    assert told[-1] == "computing in float32 with 2 threads and torch's operations"
    assert not any("µs" in message for message in told)
    (measured,) = [record for record in caplog.records if "µs" in record.getMessage()]
    assert measured.levelno == logging.DEBUG


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"m": 3}', b"\xff", b"[" * 100_000])
def test_a_broken_memory_is_measured_anew(timed, tmp_path, content):
    clock = timed()
    (tmp_path / "tuned.json").write_bytes(content)
    tune("m", _OPEN, tmp_path)
    assert clock.asked
    assert msgspec.json.decode((tmp_path / "tuned.json").read_bytes(), type=dict[str, ComputeChoice])


@pytest.mark.parametrize(
    "nonsense",
    [
        {"dtype": "nonsense"},
        {"dtype": "float16"},
        {"threads": -5},
        {"threads": 10**9},
        {"threads": "2"},
        {"kernels": 1},
    ],
    ids=str,
)
def test_a_remembered_choice_that_cannot_be_made_is_measured_anew(timed, tmp_path, nonsense):
    """One wrong choice is no reason to forget those of other models."""
    timed()
    first = tune("m", _OPEN, tmp_path)
    tune("other", _OPEN, tmp_path)
    file = tmp_path / "tuned.json"
    known = msgspec.json.decode(file.read_bytes())
    known[next(key for key in known if key.startswith("m "))] |= nonsense
    file.write_bytes(msgspec.json.encode(known))
    clock = timed()
    assert tune("m", _OPEN, tmp_path) == first
    assert clock.asked == len(first.micros)
    tune("other", _OPEN, tmp_path)
    assert clock.asked == len(first.micros)


def test_what_another_user_may_have_remembered_is_not_believed(timed, tmp_path, caplog):
    timed()
    tune("m", _OPEN, tmp_path)
    (tmp_path / "tuned.json").chmod(0o666)
    clock = timed()
    tune("m", _OPEN, tmp_path)
    assert clock.asked
    assert "others may write to it" in caplog.text
    assert (tmp_path / "tuned.json").stat().st_mode & 0o777 == 0o600


def test_choices_are_not_kept_for_ever(timed, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "_MOST", 3)
    timed()
    for model in "abcde":
        tune(model, _OPEN, tmp_path)
    assert [key[0] for key in msgspec.json.decode((tmp_path / "tuned.json").read_bytes())] == ["c", "d", "e"]


def test_what_the_settings_leave_no_choice_of_is_not_measured(timed, tmp_path):
    clock = timed()
    assert tune("m", Candidates(("float32",), (3,), (False,)), tmp_path) == ComputeChoice("float32", 3, kernels=False)
    assert clock.asked == 0
    assert not list(tmp_path.iterdir())


def test_a_real_measurement_gives_back_the_threads(kernels, tmp_path):
    del kernels  # they are built
    before = torch.get_num_threads()
    chosen = tune("m", Candidates(("float32",), (1,), (False, False)), tmp_path)
    assert torch.get_num_threads() == before
    assert all(micros > 0 for micros in chosen.micros.values())
