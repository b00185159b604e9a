"""The flags of `llm-gateway bench`, and the plan that they make."""

import argparse
import secrets
from collections.abc import Callable

from gateway.cli.bench.plan import LoadLevel, Plan


class FlagError(Exception):
    """The flags contradict each other; the message says how."""


def add_flags(command: argparse.ArgumentParser) -> None:
    """Give `command` the flags."""
    load = command.add_argument_group("load")
    kind = load.add_mutually_exclusive_group()
    kind.add_argument(
        "--concurrency", type=_list(_positive), metavar="N,N", help="clients that wait for their answers (1)"
    )
    kind.add_argument("--rate", type=_list(_seconds), metavar="R,R", help="requests a second, whatever they take")
    load.add_argument("--arrivals", choices=("poisson", "constant"), help="how they arrive at a rate (poisson)")
    load.add_argument(
        "--requests", type=_positive, metavar="N", help="a level's requests (4 a client; at a rate: 30 s of them)"
    )
    load.add_argument("--duration", type=_seconds, metavar="S", help="seconds in which a level begins requests")
    load.add_argument("--warmup", type=_natural, default=1, metavar="N", help="requests before each level (1)")
    _add_work(command)
    output = command.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    output.add_argument("--plot", metavar="FILE", help="draw a PNG (needs the extra `plot`)")


def _add_work(command: argparse.ArgumentParser) -> None:
    work = command.add_argument_group("requests")
    work.add_argument("--api", choices=("native", "chat", "completions"), help="the dialect (found by asking)")
    work.add_argument("--model", help="the model (the server's first)")
    work.add_argument("--api-key", metavar="KEY", help="the key to send (or LLM_GATEWAY_API_KEY)")
    work.add_argument("--prompt-words", type=_positive, default=100, metavar="N", help="words of a prompt (100)")
    work.add_argument("--output-tokens", type=_positive, default=64, metavar="N", help="tokens of an answer (64)")
    work.add_argument(
        "--shared-prefix", type=_share, default=0.0, metavar="SHARE", help="of a prompt's words, common to all (0)"
    )
    work.add_argument("--temperature", type=_natural_float, default=0.0, metavar="T", help="0 takes the likeliest (0)")
    work.add_argument("--timeout", type=_seconds, default=600.0, metavar="S", help="seconds for an answer (600)")
    work.add_argument("--seed", type=int, metavar="N", help="makes the same prompts again (otherwise new ones)")


def to_plan(options: argparse.Namespace, url: str) -> Plan:
    """Make the plan that the flags say; raise `FlagError`."""
    if options.arrivals and not options.rate:
        raise FlagError("--arrivals goes with --rate only")
    return Plan(
        url=url,
        levels=_levels(options),
        api=options.api,
        model=options.model,
        api_key=options.api_key,
        prompt_words=options.prompt_words,
        output_tokens=options.output_tokens,
        shared_prefix=options.shared_prefix,
        temperature=options.temperature,
        timeout=options.timeout,
        warmup=options.warmup,
        # New prompts for every run: those of the last one may still be in the server's cache.
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
    )


def _levels(options: argparse.Namespace) -> tuple[LoadLevel, ...]:
    ends = {"requests": options.requests, "seconds": options.duration}
    if options.rate:
        return tuple(LoadLevel(rate=rate, arrivals=options.arrivals or "poisson", **ends) for rate in options.rate)
    return tuple(LoadLevel(clients=clients, **ends) for clients in options.concurrency or (1,))


def _list(convert: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: [convert(part) for part in text.split(",")]


def _checked(value: float, text: str, *, good: bool) -> float:
    if not good:
        raise argparse.ArgumentTypeError(f"{text} is out of bounds")
    return value


def _positive(text: str) -> int:
    return int(_checked(int(text), text, good=int(text) >= 1))


def _natural(text: str) -> int:
    return int(_checked(int(text), text, good=int(text) >= 0))


def _seconds(text: str) -> float:
    return _checked(float(text), text, good=0 < float(text) < float("inf"))


def _natural_float(text: str) -> float:
    return _checked(float(text), text, good=0 <= float(text) < float("inf"))


def _share(text: str) -> float:
    return _checked(float(text), text, good=0 <= float(text) <= 1)
