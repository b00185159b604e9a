"""How fast the layers of a type run at the shape of half a billion parameters, as shares of what the machine can do.

A step reads each weight once, those of experts only where a row chooses them, and multiplies by each row those that are
for it: it can be no shorter than the longer of the two takes.
"""

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from gateway_hf.compute.adapters import Adapters
from gateway_hf.compute.changes import Change, fused_layers, packed_weights
from gateway_hf.compute.fitting import Means, _batched
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK, FORMATS, Kernels
from gateway_hf.compute.packed import Packed
from gateway_hf.compute.rounded import expert_weights
from gateway_hf.scheduling.scheduler import Chunk
from tests.architectures.tiny import large
from tests.load.machine import bandwidth
from tests.support.hf_engine import numbers, seated

# The families that are measured where none is named; those of the last line have experts.
FAMILIES = ("qwen2", "gemma2", "gemma3_text", "phi3", "phi", "olmo2", "granite", "gpt_neox", "gpt2", "starcoder2")
FAMILIES += ("cohere", "glm4", "smollm3", "hunyuan_v1_dense")
FAMILIES += ("qwen3_moe", "olmoe", "mixtral", "gpt_oss", "qwen2_moe", "granitemoe", "glm4_moe")
# Sequences of a step, and how often each is measured; tokens of a prompt, which has the key 0.
_STEPS = {1: 12, 8: 6, 32: 4, 0: 2}
_PROMPT = 128
_PAST = 4
_SQUARE = 1024
# Numbers that are drawn, and repeated; a prime, so that no two columns are the same.
_DRAWN = 65_537
_SPREAD = 0.02


class Roof(NamedTuple):
    """What the machine can do: bytes read a second, and operations of the fastest product, two for a multiplication.

    All is measured by `clock`: processor time where there is one thread, for other programs disturb that least.
    """

    bandwidth: float
    rate: float
    clock: Callable[[], float]


class Demand(NamedTuple):
    """How many weights a step reads, and how many multiplications it makes with them."""

    weights: int
    products: int


class Measured(NamedTuple):
    """Tokens a second, and the share of the roof: of steps of so many rows, and of a prompt, which has the key 0."""

    tokens: dict[int, float]
    shares: dict[int, float]


def measure_roof(cache: Path, threads: int, dtype: torch.dtype) -> Roof:
    """Measure the machine: the better of torch's product in float32 and the kernels' own is its rate."""
    kernels, clock = Kernels(cache, threads), time.thread_time if threads == 1 else time.perf_counter
    square = torch.randn(_SQUARE, _SQUARE)
    packed = Packed(square, None, FORMATS[dtype], kernels)
    rows = square[:_PROMPT].contiguous()
    own = 2 * _PROMPT * _SQUARE**2 / _best(lambda: kernels.multiply(packed.struct, rows), 20, clock)
    torch.set_num_threads(threads)
    stock = 2 * _SQUARE**3 / _best(lambda: square @ square, 10, clock)
    return Roof(bandwidth(clock), max(own, stock), clock)


@torch.inference_mode()
def measure(
    kind: str, roof: Roof, kernels: Kernels, dtype: torch.dtype, layers: int | None = None
) -> dict[str, Measured | str]:
    """Measure a type `fused`, with `packed` weights alone, and with experts as it is, `stock`; with so many `layers`.

    A way that the type cannot have says why.
    """
    model = _built(kind, dtype, layers)
    experts = [each for each in model.modules() if expert_weights(each)]
    apart = {model.get_output_embeddings(), *experts}
    others = [each for each in model.modules() if each not in apart and not isinstance(each, nn.Embedding)]
    own = [weight for each in others for weight in each.parameters(recurse=False)]
    every, head = sum(each.numel() for each in own if each.dim() > 1), model.get_output_embeddings().weight.numel()
    chosen, seconds = _run_stock(model, experts, roof.clock) if experts else ({}, {})
    demands = dict[int, Demand]()
    for rows in _STEPS:
        count, heads = (rows, rows) if rows else (_PROMPT, 1)
        of_experts = chosen.get(rows, Demand(0, 0))
        products = every * count + head * heads + of_experts.products
        demands[rows] = Demand(every + head + of_experts.weights, products)
    del model, experts, apart, others, own  # before it is made again: there may be no room for two
    found: dict[str, Measured | str] = {"stock": _measured(seconds, demands, dtype, roof)} if seconds else {}
    for name, change in (("packed", packed_weights), ("fused", fused_layers)):
        try:
            forward = _fitted(_built(kind, dtype, layers), kernels, change, dtype)
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
            found[name] = str(error)
        else:
            found[name] = _measured(_run(forward, roof.clock), demands, dtype, roof)
            del forward
    return found


def _built(kind: str, dtype: torch.dtype, layers: int | None) -> PreTrainedModel:
    with no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(large(kind, layers), dtype=dtype).eval()
    block = torch.randn(_DRAWN, generator=torch.Generator().manual_seed(0)).to(dtype) * _SPREAD
    for at, weight in enumerate(model.parameters()):
        if weight.dim() > 1:  # drawing as many numbers would take longer than what is measured
            # (Of the same numbers from the same one on, queries and keys would be the same.)
            weight.copy_(block.roll(at).repeat(-(-weight.numel() // _DRAWN))[: weight.numel()].view(weight.shape))
        else:
            weight.fill_(1.0)
    return model


def _fitted(model: PreTrainedModel, kernels: Kernels, change: Change, dtype: torch.dtype) -> Forward:
    class Untried:
        """Random weights of this size are not tried: the tiny ones are."""

        def check(self, *_: object) -> None:
            """Check nothing."""

    trials: Any = Untried()
    blocks = max(_STEPS) * 2 + _PROMPT // BLOCK
    return _batched(model, Adapters({}, kernels), trials, Means(blocks, kernels, FORMATS[dtype]), change).forward


def _sequences() -> list[list[int]]:
    """Return the tokens of sequences, one more than their past."""
    return [numbers(_PAST + 1, at) for at in range(max(_STEPS))]


def _prompt() -> list[int]:
    return numbers(_PROMPT, 99)


def _run_stock(
    model: PreTrainedModel, experts: Sequence[nn.Module], clock: Callable[[], float]
) -> tuple[dict[int, Demand], dict[int, float]]:
    """Run the steps in transformers' own code; return what they demand of experts, and their seconds."""
    own: Any = model
    tokens = torch.tensor(_sequences())
    past = own(tokens[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
    jobs = dict[int, Callable[[], object]]()
    for rows in filter(None, _STEPS):
        cache = copy.deepcopy(past)
        cache.batch_select_indices(torch.arange(rows))

        def step(rows: int = rows, cache: Any = cache) -> None:
            own(tokens[:rows, -1:], past_key_values=cache, use_cache=True)
            cache.crop(-1)

        jobs[rows] = step
    jobs[0] = lambda: own(torch.tensor([_prompt()]), use_cache=True, logits_to_keep=1)
    demands = {rows: _demand(experts, job) for rows, job in jobs.items()}
    return demands, {rows: _best(job, 1, clock) for rows, job in jobs.items()}


def _demand(experts: Sequence[nn.Module], job: Callable[[], object]) -> Demand:
    """Say what a step demands of experts: those that its rows choose."""
    weights = products = 0

    def note(module: nn.Module, given: Sequence[Tensor]) -> None:
        nonlocal weights, products
        one = sum(each[0].numel() for each in module.parameters(recurse=False) if each.dim() > 2)
        weights, products = weights + one * given[1].unique().numel(), products + one * given[1].numel()

    hooks = [each.register_forward_pre_hook(note) for each in experts]
    job()
    for hook in hooks:
        hook.remove()
    return Demand(weights, products)


def _run(forward: Forward, clock: Callable[[], float]) -> dict[int, float]:
    """Return the seconds of the steps."""
    sequences = [seated(tokens, [2 * at, 2 * at + 1]) for at, tokens in enumerate(_sequences())]
    forward.logits([Chunk(each, _PAST) for each in sequences])
    for each in sequences:
        each.computed = _PAST
    first = 2 * len(sequences)
    prompt = seated(_prompt(), range(first, first + _PROMPT // BLOCK))
    chunks = {rows: [Chunk(each, 1) for each in sequences[:rows]] for rows in _STEPS} | {0: [Chunk(prompt, _PROMPT)]}
    return {
        rows: _best(lambda rows=rows: forward.logits(chunks[rows]), rounds, clock) for rows, rounds in _STEPS.items()
    }


def _measured(seconds: dict[int, float], demands: dict[int, Demand], dtype: torch.dtype, roof: Roof) -> Measured:
    tokens, shares = dict[int, float](), dict[int, float]()
    for rows, took in seconds.items():
        demand = demands[rows]
        least = max(demand.weights * dtype.itemsize / roof.bandwidth, 2 * demand.products / roof.rate)
        tokens[rows], shares[rows] = (rows or _PROMPT) / took, least / took
    return Measured(tokens, shares)


def _best(job: Callable[[], Tensor | object], rounds: int, clock: Callable[[], float]) -> float:
    """Return the seconds of the shortest of some rounds."""
    seconds = []
    for _ in range(rounds):
        begun = clock()
        job()
        seconds.append(clock() - begun)
    return min(seconds)
