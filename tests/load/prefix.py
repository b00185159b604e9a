"""Measure what the route strategy `prefix` saves: conversations over two engines, beside `least_loaded`.

    uv run python -m tests.load.prefix [--conversations 12] [--turns 6] [--clients 4] [--cache-tokens 0]

Each strategy has a service of its own, with two cold engines `hf`. Conversations share a system prompt; the turns of
all are mixed, so that many lie between two of one conversation. Printed are the share of prompt tokens that the engines
found in their caches, the share of those that a turn could find at most (all that its conversation had before), and the
median milliseconds to the first token of the turns behind the first.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence

import httpx
from msgspec import Struct

from gateway.cli.bench.prompts import PromptSource
from tests.support.service import Service

STRATEGIES = ("least_loaded", "prefix")
ENGINES = ("east", "west")
SYSTEM_WORDS, USER_WORDS, ANSWER_TOKENS = 80, 60, 12


class Turn(Struct, frozen=True):
    """One answered turn: what the engine read, what it found in its cache, what it could have found, and the wait."""

    number: int
    engine: str
    prompt: int
    cached: int
    possible: int
    seconds: float


class Conversation:
    """What was said up to now, and how many tokens that was."""

    def __init__(self, number: int, system: str) -> None:
        self.number = number
        self.messages = [{"role": "system", "content": system}]
        self.turns = 0
        self.tokens = 0

    async def go_on(self, client: httpx.AsyncClient, source: PromptSource) -> Turn:
        """Say one more thing, and take the answer in."""
        self.messages.append({"role": "user", "content": source.text(self.number * 1_000 + self.turns)})
        sampling = {"temperature": 0, "max_tokens": ANSWER_TOKENS, "ignore_eos": True}
        body = {"model": "both", "messages": self.messages, "stream": True, **sampling}
        began, seconds, text, usage = time.perf_counter(), 0.0, "", {}
        options = {"stream_options": {"include_usage": True}}
        async with client.stream("POST", "/v1/chat/completions", json=body | options) as answer:
            if answer.status_code != 200:
                raise SystemExit(f"{answer.status_code}: {(await answer.aread())[:300]!r}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                frame = json.loads(line.removeprefix("data: "))
                said = "".join(choice["delta"].get("content") or "" for choice in frame["choices"])
                seconds = seconds or (time.perf_counter() - began if said else 0.0)
                text, usage = text + said, frame.get("usage") or usage
        self.messages.append({"role": "assistant", "content": text})
        prompt, cached = usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
        turn = Turn(self.turns, answer.headers["x-engine"], prompt, cached, self.tokens, seconds)
        self.turns, self.tokens = self.turns + 1, prompt + usage["completion_tokens"]
        return turn


async def converse(url: str, options: argparse.Namespace) -> list[Turn]:
    """Have all conversations go on, round after round, each round in another order."""
    source, order = PromptSource(options.seed, USER_WORDS), random.Random(options.seed)  # noqa: S311 - no secret
    system = PromptSource(options.seed, SYSTEM_WORDS).text(-1)
    conversations = [Conversation(number, system) for number in range(options.conversations)]
    turns: list[Turn] = []
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:

        async def ask(waiting: list[Conversation]) -> None:
            while waiting:
                turns.append(await waiting.pop().go_on(client, source))

        for _ in range(options.turns):
            waiting = order.sample(conversations, len(conversations))
            await asyncio.gather(*[ask(waiting) for _ in range(options.clients)])
    return turns


def serve(strategy: str, options: argparse.Namespace) -> Service:
    """Make a service with two engines behind one route."""
    environment = {"LLM_GATEWAY__ROUTES__BOTH__ENGINES": json.dumps(ENGINES), "LOG_LEVEL": "ERROR"}
    environment["LLM_GATEWAY__ROUTES__BOTH__STRATEGY"] = strategy
    settings = {"MODEL": options.model, "THREADS": "1", "CACHE_TOKENS": str(options.cache_tokens)}
    for name in ENGINES:
        start = f"LLM_GATEWAY__ENGINES__{name.upper()}__"
        environment[f"{start}PLUGIN"] = "hf"
        environment |= {f"{start}SETTINGS__{key}": value for key, value in settings.items()}
        environment[f"{start}SETTINGS__SERVED_NAME"] = name
    return Service(ENGINE="echo", ready=False, **environment)


def describe(strategy: str, turns: Sequence[Turn]) -> str:
    """Say in a line what was found in the caches."""
    later = [turn for turn in turns if turn.number]
    prompt, cached = sum(turn.prompt for turn in turns), sum(turn.cached for turn in turns)
    found = sum(min(turn.cached, turn.possible) for turn in later) / sum(turn.possible for turn in later)
    wait = statistics.median(turn.seconds for turn in later) * 1e3
    shares = [sum(turn.engine == name for turn in turns) for name in ENGINES]
    return (
        f"{strategy:14} {cached / prompt:6.1%} of {prompt} prompt tokens cached, {prompt - cached} computed, "
        f"{found:6.1%} of what a later turn could find, first token after {wait:.0f} ms, answers {shares}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--cache-tokens", type=int, default=0, help="of each engine; 0 is the engine's default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for strategy in STRATEGIES:
        with serve(strategy, options) as service:
            service.wait_for("/readyz", seconds=180)
            print(describe(strategy, asyncio.run(converse(service.url, options))), flush=True)


if __name__ == "__main__":
    main()
