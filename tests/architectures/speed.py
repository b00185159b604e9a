"""How fast the layers of a type run at the shape of half a billion parameters, as shares of what the machine can do.

A step reads each weight once, and multiplies it by each row: it can be no shorter than the longer of the two takes.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.adapters import Adapters
from gateway_hf.compute.changes import Change, fused_layers, packed_weights
from gateway_hf.compute.fitting import Means, _batched
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import FORMATS, Kernels
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.rounded import plain_weight
from gateway_hf.scheduling.scheduler import Chunk
from tests.architectures.tiny import LARGE, configured
from tests.load.machine import bandwidth
from tests.support.hf_engine import numbers, seated

# The families that are measured where none is named.
FAMILIES = (
    "qwen2",
    "gemma2",
    "gemma3_text",
    "phi3",
    "phi",
    "olmo2",
    "granite",
    "gpt_neox",
    "gpt2",
    "starcoder2",
    "cohere",
)
FAMILIES += ("glm4", "smollm3")
# Sequences of a step, and how often each is measured; tokens of a prompt.
_STEPS = {1: 12, 32: 4}
_PROMPT = 128
_PAST = 16
_SQUARE = 1024
# Numbers that are drawn, and repeated; a prime, so that no two columns are the same.
_BLOCK = 65_537
_SPREAD = 0.02


class Roof(NamedTuple):
    """What the machine can do: bytes read a second, and operations of the fastest product, two for a multiplication."""

    bandwidth: float
    rate: float


class Measured(NamedTuple):
    """Tokens a second, and the share of the roof: of steps of so many rows, and of a prompt, which has the key 0."""

    tokens: dict[int, float]
    shares: dict[int, float]


def measure_roof(cache: Path, threads: int, dtype: torch.dtype) -> Roof:
    """Measure the machine: the better of torch's product in float32 and the kernels' own is its rate."""
    kernels = Kernels(cache, threads)
    square = torch.randn(_SQUARE, _SQUARE)
    packed = Packed(square, None, FORMATS[dtype], kernels)
    rows = square[:_PROMPT].contiguous()
    own = 2 * _PROMPT * _SQUARE**2 / _best(lambda: kernels.multiply(packed.struct, rows), 20)
    torch.set_num_threads(threads)
    stock = 2 * _SQUARE**3 / _best(lambda: square @ square, 10)
    return Roof(bandwidth(), max(own, stock))


@torch.inference_mode()
def measure(kind: str, roof: Roof, kernels: Kernels, dtype: torch.dtype) -> dict[str, Measured | str]:
    """Measure a type with fused layers, and with packed weights alone; a way that it cannot have says why."""
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(configured(kind, LARGE), dtype=dtype).eval()
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)).to(dtype) * _SPREAD
    for weight in model.parameters():
        if weight.dim() > 1:  # drawing as many numbers would take longer than what is measured
            weight.copy_(block.repeat(-(-weight.numel() // _BLOCK))[: weight.numel()].view(weight.shape))
        else:
            weight.fill_(1.0)
    weights = _weights(model)
    found: dict[str, Measured | str] = {}
    for name, change in (("fused", fused_layers), ("packed", packed_weights)):
        try:
            forward = _fitted(copy.deepcopy(model), kernels, change, dtype)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            found[name] = str(error)
        else:
            found[name] = _measured(forward, weights, dtype.itemsize, roof)
            del forward
    return found


def _fitted(model: PreTrainedModel, kernels: Kernels, change: Change, dtype: torch.dtype) -> Forward:
    class Untried:
        """Random weights of this size are not tried: the tiny ones are."""

        def check(self, *_: object) -> None:
            """Check nothing."""

    trials: Any = Untried()
    blocks = max(_STEPS) * 2 + _PROMPT // _PAST
    return _batched(model, Adapters({}, kernels), trials, Means(blocks, kernels, FORMATS[dtype]), change).forward


def _weights(model: PreTrainedModel) -> tuple[int, int]:
    """Count the numbers of the linear layers within the model, and of its head."""
    head = model.get_output_embeddings()
    inner = [each for each in model.modules() if isinstance(each, nn.Linear | Conv1D) and each is not head]
    return sum(plain_weight(each).numel() for each in inner), head.weight.numel()


def _measured(forward: Forward, weights: tuple[int, int], size: int, roof: Roof) -> Measured:
    inner, head = weights
    sequences = [seated(numbers(_PAST + 1, at), [2 * at, 2 * at + 1]) for at in range(max(_STEPS))]
    for each in sequences:
        forward.logits([Chunk(each, _PAST)])
        each.computed = _PAST
    first = 2 * len(sequences)
    prompt = seated(numbers(_PROMPT, 99), range(first, first + _PROMPT // _PAST))
    seconds = {
        rows: _best(lambda rows=rows: forward.logits([Chunk(each, 1) for each in sequences[:rows]]), rounds)
        for rows, rounds in _STEPS.items()
    }
    seconds[0] = _best(lambda: forward.logits([Chunk(prompt, _PROMPT)]), 2)
    tokens, shares = dict[int, float](), dict[int, float]()
    for rows, took in seconds.items():
        count, heads = (rows, rows) if rows else (_PROMPT, 1)
        least = max((inner + head) * size / roof.bandwidth, 2 * (inner * count + head * heads) / roof.rate)
        tokens[rows], shares[rows] = count / took, least / took
    return Measured(tokens, shares)


def _best(job: Callable[[], Tensor | object], rounds: int) -> float:
    """Return the seconds of the shortest of some rounds."""
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
