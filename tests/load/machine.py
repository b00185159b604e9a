"""What the machine and the stock library can do: memory bandwidth, the model's floor, the plain loop."""

import statistics
import time
from collections.abc import Callable

import torch
from msgspec import Struct
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from gateway_hf.loading import sources
from gateway_hf.settings import Settings

_READ_BYTES = 2**30
_SQUARE = 1_024


class Machine(Struct):
    """Bytes a second; bytes; seconds of the floor's step; tokens a second of each plain loop."""

    bandwidth: float
    weights: int
    loops: list[float]

    @property
    def floor(self) -> float:
        """Return the seconds in which the weights are read once: no step of one sequence is shorter."""
        return self.weights / self.bandwidth

    @property
    def plain(self) -> float:
        """Return the plain loop's tokens a second."""
        return statistics.median(self.loops)


def measure_machine(settings: dict, prompts: list[str], tokens: int) -> Machine:
    """Measure; meant for a process of its own, which gives its memory back when it ends."""
    torch.set_num_threads(Settings(**settings).threads or torch.get_num_threads())
    disable_progress_bar()
    read = bandwidth()
    source = sources.find(Settings(**settings), torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(source.folder)
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.bfloat16).eval()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    _loop(model, tokenizer, prompts[0], tokens)
    return Machine(read, weights, [_loop(model, tokenizer, prompt, tokens) for prompt in prompts])


def bandwidth(clock: Callable[[], float] = time.perf_counter) -> float:
    """Read a tensor that no cache holds; the best of several, in bytes a second of this clock."""
    big = torch.ones(_READ_BYTES // 4)
    seconds = []
    for _ in range(20):
        begun = clock()
        big.sum()
        seconds.append(clock() - begun)
    return _READ_BYTES / min(seconds)


def product_rate(threads: int, seconds: float = 0.3) -> float:
    """Multiply matrices in float32 for so many seconds; return operations a second, two for a multiplication.

    It is the mean and not the best, for it is to say what the machine gives to its programs meanwhile.
    """
    before, made = torch.get_num_threads(), 0
    torch.set_num_threads(threads)
    square = torch.ones(_SQUARE, _SQUARE)
    _ = square @ square  # which starts the threads
    begun = time.perf_counter()
    while (took := time.perf_counter() - begun) < seconds:
        _ = square @ square
        made += 1
    torch.set_num_threads(before)
    return 2 * _SQUARE**3 * made / took


def _loop(model, tokenizer, prompt: str, tokens: int) -> float:
    """Generate greedily, prompt included, as `model.generate()` does; return tokens a second."""
    inputs = tokenizer(prompt, return_tensors="pt")
    begun = time.perf_counter()
    with torch.inference_mode():
        answer = model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    made = answer.shape[1] - inputs["input_ids"].shape[1]
    return made / (time.perf_counter() - begun)
