"""The golden prompts, and what a model says of them."""

import math
from collections.abc import Sequence as Some

import torch
from msgspec import Struct

from gateway.engine import Completion, LoadFailed
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.kernels import BLOCK
from gateway_hf.sampling.score import score
from gateway_hf.scheduling.scheduler import Chunk
from gateway_hf.scheduling.sequence import Sequence
from gateway_hf.text.codec import TextCodec

TEXTS = (
    "The Danube rises in the Black Forest and flows east for 2,850 km, past Vienna and Budapest, to the Black Sea.",
    'def mean(values: list[float]) -> float:\n    """Return the average."""\n    return sum(values) / len(values)\n',
)
# Tokens of a prompt at most: what the trial at load leaves room for, and what takes no time to compute.
LONGEST = 32
# Tokens of each prompt that are read one by one behind the others, as an answer is.
_ALONE = 3

PromptTokens = tuple[tuple[int, ...], ...]
Logprobs = tuple[tuple[float, ...], ...]


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model of this `build` said: prompts `[prompt][token]`, log probabilities of all but each first token.

    Of a model that makes vectors `logprobs` has the vector of each prompt.
    """

    build: dict[str, str]
    prompts: PromptTokens
    logprobs: Logprobs


def read_prompts(text: TextCodec, window: int) -> PromptTokens:
    """Return the golden prompts as a model's tokens; none where its context of `window` tokens has no room for one."""
    most = min(LONGEST, window)
    read = (tuple(text.encode(Completion(each))[:most]) for each in TEXTS)
    return tuple(ids for ids in read if len(ids) > _ALONE + 1)


@torch.inference_mode()
def score_prompts(forward: Forward, prompts: PromptTokens, *, batched: bool) -> Logprobs:
    """Return how likely a model finds each token of the prompts but the first, in nats.

    A batched forward reads them side by side, and their last tokens one by one, as answers are. It writes over the
    first blocks of its cache. Raises `LoadFailed` where that are no numbers, `EngineError` where it says nothing of a
    prompt.
    """
    sequences = [Sequence(list(ids), ranks=0) for ids in prompts]
    free = 0
    for sequence in sequences:
        first, free = free, free + math.ceil(len(sequence.tokens) / BLOCK)
        sequence.blocks = list(range(first, free))
    alone = _ALONE if batched else 0
    try:
        _read(forward, [Chunk(each, len(each.tokens) - 1 - alone) for each in sequences])
        for _ in range(alone):
            _read(forward, [Chunk(each, 1) for each in sequences])
    finally:
        for sequence in sequences:
            forward.forget(sequence)
    return tuple(tuple(found.logprob for found, *_ in each.scores) for each in sequences)


def _read(forward: Forward, chunks: Some[Chunk]) -> None:
    logits, counts = forward.logits(chunks)
    if bool(logits.isnan().any()):
        raise LoadFailed("the model computes no numbers for its golden prompts; its files may be damaged")
    for chunk, rows in zip(chunks, torch.split(logits, counts), strict=True):
        score(chunk.sequence, rows)
        chunk.sequence.computed += chunk.tokens


def drift_of(golden: Golden, logprobs: Logprobs) -> float:
    """Return the mean absolute difference between what was said and what is, in nats."""
    pairs = zip(golden.logprobs, logprobs, strict=True)
    differences = [abs(then - now) for each in pairs for then, now in zip(*each, strict=True)]
    return math.fsum(differences) / len(differences)
