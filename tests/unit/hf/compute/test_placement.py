import math
from contextlib import suppress

import pytest
import torch

from gateway.engine import LoadFailed
from gateway_hf.compute import placement
from gateway_hf.settings import Settings

CPU = torch.device("cpu")


@pytest.fixture
def cards(monkeypatch):
    def have(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


@pytest.mark.parametrize(("count", "chosen"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(cards, count, chosen):
    cards(count)
    assert placement.choose_device(Settings(device="auto")).type == chosen


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused_in_one_line(cards, device, count):
    cards(count)
    with pytest.raises(LoadFailed, match=f"'{device}'.* {count} CUDA devices") as caught:
        placement.choose_device(Settings(device=device))
    assert "\n" not in caught.value.message


def test_the_processor_is_taken_when_named_even_beside_a_gpu(cards):
    cards(1)
    assert placement.choose_device(Settings(device="cpu")) == CPU


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [({"avx2"}, torch.float32), ({"avx512_bf16"}, torch.bfloat16), ({"amx_bf16"}, torch.bfloat16)],
)
def test_auto_computes_in_bfloat16_where_the_processor_does(monkeypatch, flags, dtype):
    monkeypatch.setattr(placement, "processor_flags", lambda: frozenset(flags))
    assert placement.choose_dtype(Settings(), CPU) is dtype


def test_a_dtype_that_is_named_is_taken(monkeypatch):
    monkeypatch.setattr(placement, "processor_flags", frozenset)
    assert placement.choose_dtype(Settings(dtype="float16"), CPU) is torch.float16


def test_the_flags_of_both_kinds_of_processor_are_read(tmp_path):
    file = tmp_path / "cpuinfo"
    for line in ("flags\t\t: fpu avx512_bf16 sse", "Features\t: fp asimd bf16"):
        file.write_text(f"processor\t: 0\nvendor: x\n{line}\n")
        assert placement.processor_flags(file) & {"avx512_bf16", "bf16"}
    assert placement.processor_flags(tmp_path / "nowhere") == frozenset()


@pytest.mark.parametrize(
    ("cores", "quota", "threads"), [(8, math.inf, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 4.0, 2)]
)
def test_threads_follow_the_cores_and_the_quota(monkeypatch, cores, quota, threads):
    monkeypatch.setattr(placement, "_cores", lambda: frozenset(map(str, range(cores))))
    monkeypatch.setattr(placement, "_quota", lambda: quota)
    assert placement.choose_threads(Settings()) == threads
    assert placement.choose_threads(Settings(threads=3)) == 3


def test_siblings_of_one_core_count_once(monkeypatch):
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(placement, "_siblings", lambda cpu: f"{cpu % 2},{cpu % 2 + 2}")
    assert len(placement._cores()) == 2


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000"}, math.inf),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
    ],
)
def test_the_control_groups_quota_is_read_in_both_versions(tmp_path, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert placement._quota(tmp_path) == quota


@pytest.mark.parametrize(("only", "meanwhile"), [(True, 1), (False, 2)])
def test_torch_computes_in_one_thread_meanwhile_where_it_is_to(only, meanwhile):
    torch.set_num_threads(2)
    with suppress(KeyError), placement.one_thread(only=only):
        assert torch.get_num_threads() == meanwhile
        raise KeyError
    assert torch.get_num_threads() == 2
