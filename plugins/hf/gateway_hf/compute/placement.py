"""Where a model runs and how it computes: device, number format, threads."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gateway.engine import LoadFailed
from gateway_hf.compute.processor import BF16_FLAGS, processor_flags
from gateway_hf.settings import Settings

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def choose_device(settings: Settings) -> torch.device:
    """Return the device that the settings ask for; raise `LoadFailed` where it is not there."""
    count = torch.cuda.device_count() if settings.device != "cpu" and torch.cuda.is_available() else 0
    if settings.device == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(settings.device)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise LoadFailed(f"the device '{settings.device}' is not there: this machine has {count} CUDA devices")
    return device


def choose_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """Return the number format; `auto` is bfloat16 where the hardware multiplies in it."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)  # type: ignore[no-any-return] # one of three names
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if BF16_FLAGS & processor_flags() else torch.float32


def choose_threads(settings: Settings) -> int:
    """Return the number of threads: one for each physical core that the process may use."""
    return settings.threads or max(1, math.ceil(min(len(_cores()), _quota())))


@contextmanager
def one_thread(*, only: bool) -> Iterator[None]:
    """Have torch compute in one thread meanwhile, where it is to.

    Operations on a small model take less than a millisecond in one; two wait for each other at the end of each, where
    another program computes as well for as long as that one is given the processor.
    """
    before = torch.get_num_threads()
    if only:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> frozenset[str]:
    """Return the physical cores of the processors that the process may run on, each by its list of siblings."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return frozenset(map(str, range(os.cpu_count() or 1)))
    return frozenset(_siblings(cpu) for cpu in allowed)


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text().strip()
    except OSError:
        return str(cpu)


def _quota(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the processors' worth of time that the control group grants."""
    for quota, period in ((root / "cpu.max", None), (root / "cpu/cpu.cfs_quota_us", root / "cpu/cpu.cfs_period_us")):
        try:
            granted = quota.read_text().split() + ([period.read_text()] if period else [])
            return int(granted[0]) / int(granted[1]) if int(granted[0]) > 0 else math.inf
        except (OSError, ValueError, IndexError):
            continue
    return math.inf
