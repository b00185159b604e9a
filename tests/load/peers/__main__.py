"""Hold this server against others on this machine: the same load on the same weights, one server at a time, by turns.

    just peers [--peers openvino,llama.cpp,vllm] [--clients 1,8,32] [--model builtin] [--runs 1] [--json FILE]

Prompts are 100 random words, and questions of a chat; answers have 64 tokens, greedy, streamed, and do not end by
themselves. Ratios are to the best other server in the same class of number formats. Each server is installed in an
environment of its own, and what cannot be installed or started is named. The first time, llama.cpp is compiled.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from tests.load.chats import chat_prompts, random_prompts
from tests.load.peers import report, weights
from tests.load.peers.report import Finding
from tests.load.peers.rounds import Rounds, tools
from tests.load.peers.samples import Load
from tests.load.peers.table import BUILTIN, OURS, PEERS, NotInstalled, Rival, choose

_SEED = 7


def main() -> int:
    """Install, measure and print; return 1 where ours did not run."""
    options = _read()
    rivals, left = choose(options.peers, options.model, options.clients)
    load = Load(tuple(options.clients), options.tokens, options.seconds)
    with tempfile.TemporaryDirectory(prefix="gateway-peers-") as folder:
        rounds = Rounds(options.model, make_sets(options.model, load, options.prompts), load, Path(folder))
        ready = list(_prepared(rounds, rivals, left))
        findings: list[Finding] = []
        for turn in range(options.runs):
            # Back and forth, so that a machine which becomes slower is slower for all.
            order = ready if turn % 2 == 0 else ready[::-1]
            findings += [_measured(rounds, rival, left) for rival in order]
    show(findings, left, rounds)
    if options.json:
        found = {"findings": findings, "not run": left}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return 0 if any(each.levels for each in findings if each.rival.peer == OURS) else 1


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="just peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=["openvino", "llama.cpp", "vllm"], type=_names(PEERS), help=", ".join(PEERS))
    parser.add_argument("--clients", default=[1, 8, 32], type=lambda text: sorted(map(int, text.split(","))))
    parser.add_argument(
        "--model", default=BUILTIN, choices=(BUILTIN, *weights.SHAPES), help="others are random weights"
    )
    parser.add_argument("--prompts", default=["random", "chat"], type=_names(("random", "chat")))
    parser.add_argument("--tokens", default=64, type=int, help="of an answer")
    parser.add_argument("--seconds", default=12.0, type=float, help="in which a level begins requests")
    parser.add_argument("--runs", default=1, type=int, help="rounds, of which each figure is the median")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def _names(known: tuple[str, ...]):
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return names

    return read


def make_sets(model: str, load: Load, names: list[str]) -> dict[str, list[str]]:
    """Make the prompts of each set, as many as all levels have."""
    render = weights.renderer(weights.folder_of(model, tools() / "models"))
    sources = {"random": random_prompts(_SEED), "chat": chat_prompts(render)}
    return {name: [sources[name](number) for number in range(load.prompts())] for name in names}


def _prepared(rounds: Rounds, rivals: list[Rival], left: dict[str, str]):
    for rival in rivals:
        _say(f"{rival.name}: installing")
        try:
            rounds.prepare(rival)
        except NotInstalled as error:
            left[rival.name] = str(error)
        else:
            yield rival


def _measured(rounds: Rounds, rival: Rival, left: dict[str, str]) -> Finding:
    _say(f"{rival.name}: measuring")
    found = rounds.run(rival)
    if found.reason:
        left[rival.name] = found.reason
        _say(f"{rival.name}: {found.reason}")
    for name, levels in found.levels.items():
        told = " / ".join(f"{level.speed:.0f}" for level in levels)
        _say(f"{rival.name}: {name} prompts {told} tokens/s, ready after {found.start:.1f} s")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(findings: list[Finding], left: dict[str, str], rounds: Rounds) -> None:
    """Print a table for each set of prompts, and what belongs under them."""
    console, clients = Console(width=200, highlight=False), rounds.load.clients
    for name in rounds.sets:
        rows = report.merge(findings, name)
        if rows:
            console.print(report.tabled(rows, clients, f"{rounds.model}, {name} prompts, {rounds.load.tokens} tokens"))
            for line in report.own_gains(rows, clients):
                console.print(line)
            for line in report.notes(rows, {}):
                console.print(line)
    for name, why in left.items():
        console.print(f"{name} not run: {why}", markup=False)
    console.print("x: the share of the best other server in the class; of times, less is better.")


if __name__ == "__main__":
    sys.exit(main())
