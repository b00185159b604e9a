"""What tests of the Hugging Face engine share: models, requests, states to wait for, its thread, sequences by hand."""

import asyncio
import copy
import random
import threading
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from gateway.engine import (
    Completion,
    GenerateRequest,
    Sampling,
)
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.compute.placement import choose_dtype
from gateway_hf.compute.tuning import Candidates, ComputeChoice
from gateway_hf.loading import sources
from gateway_hf.runner import Runner
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence
from gateway_hf.settings import Settings

LONG = Sampling(max_tokens=240, ignore_eos=True, temperature=0.0)
SHORT = Sampling(max_tokens=4, ignore_eos=True, temperature=0.0)

# The format that `builtin` is converted to where nothing is set. A second one would take its time in every cold cache.
BUILTIN_DTYPE = choose_dtype(Settings(), torch.device("cpu"))


def builtin_folder() -> Path:
    """Return the one conversion of the built-in model that all tests share; any dtype can be loaded from it."""
    source = sources.find(Settings(), BUILTIN_DTYPE)  # it holds the folder open
    return source.folder.resolve()


def unmeasured(_model: str, candidates: Candidates, _cache: Path) -> ComputeChoice:
    """Stand in the place of `tune`: to measure for each tiny model takes long, and finds another way each time.

    Of the numbers of threads it is the least: tests run on each core, where two threads mostly wait for each other.
    """
    return ComputeChoice(candidates.dtypes[0], min(candidates.threads), candidates.kernels[0])


def ask(prompt="Once upon a time", sampling=SHORT, priority=0):
    prompt = Completion(prompt) if isinstance(prompt, str) else prompt
    return GenerateRequest(id="t", model="m", prompt=prompt, sampling=sampling, priority=priority)


async def until(engine, **wanted):
    """Wait until the status says what is wanted."""
    async with asyncio.timeout(20):
        while True:
            status = await engine.status()
            if all(getattr(status, name) == value for name, value in wanted.items()):
                return
            await asyncio.sleep(0.001)


class Gate:
    """Holds the engine's thread inside a forward."""

    def __init__(self, monkeypatch):
        self.inside, self.open = threading.Event(), threading.Event()
        run = Runner.run

        def held(runner, chunks):
            self.inside.set()
            assert self.open.wait(20)
            return run(runner, chunks)

        monkeypatch.setattr(Runner, "run", held)

    async def reached(self):
        assert await asyncio.to_thread(self.inside.wait, 20)


def numbers(count, seed=0, vocabulary=300):
    """Say `count` token ids that no two seeds share."""
    draw = random.Random(seed)  # noqa: S311 - nothing is secret
    return [draw.randrange(5, vocabulary) for _ in range(count)]


def seated(tokens, blocks, computed=0, draft=()):
    """Make a sequence that has its blocks already."""
    sequence = Sequence(list(tokens))
    sequence.blocks, sequence.computed, sequence.draft = list(blocks), computed, list(draft)
    return sequence


def scattered(lengths, seed=0):
    """Deal blocks for sequences of these lengths, none next to its neighbour but by chance, and say how many."""
    needed = [-(-length // BLOCK) for length in lengths]
    ids = list(range(sum(needed)))
    random.Random(seed).shuffle(ids)  # noqa: S311 - nothing is secret
    return [[ids.pop() for _ in range(count)] for count in needed], sum(needed)


@torch.inference_mode()
def read(forward, tokens, blocks, steps=()):
    """Read tokens in steps of so many, the rest in one; return the logits after each step."""
    sequence = seated(tokens, blocks)
    said = []
    for step in (*steps, len(tokens) - sum(steps)):
        logits, counts = forward.logits([Chunk(sequence, step)])
        sequence.computed += step
        said += logits[:0] if counts == [0] else logits
    return said


def drawn_model(config, dtype=torch.float32):
    """Make a model of a shape, whose matrices are drawn wider than they begin, so that rows say different things."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.2)
    return model.to(dtype)
