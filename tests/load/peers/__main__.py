"""Hold this server against others on this machine: the same load on the same weights, by turns.

    just peers [--peers openvino,llama.cpp,vllm] [--clients 1,8,32] [--model builtin] [--runs 2] [--json FILE]

Prompts are 100 random words, and questions of a chat; answers have 64 tokens, greedy, streamed, and do not end by
themselves. The servers of a class of number formats are started one after the other and stay up. Each level, which is a
set of prompts at a number of clients, is measured of one server after the other, back and forth, before the next level
begins, and between any two the machine itself multiplies matrices for a moment: where it was not equally fast, a note
says so. Where the memory may not hold them all, one is up at a time. Ratios are to the best other server in the class.
Each is installed in an environment of its own, and what cannot be installed or started is named. The first time,
llama.cpp is compiled.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console

from tests.load.chats import chat_prompts, random_prompts
from tests.load.machine import product_rate
from tests.load.peers import report, weights
from tests.load.peers.launcher import Launcher, tools
from tests.load.peers.report import Finding
from tests.load.peers.rounds import Rounds
from tests.load.peers.samples import Load
from tests.load.peers.table import BUILTIN, CLASSES, OURS, PEERS, NotInstalled, Rival, choose

_SEED = 7


def main() -> int:
    """Install, measure and print; return 1 where ours did not run."""
    options = _read()
    rivals, left = choose(options.peers, options.model, options.clients)
    load = Load(tuple(options.clients), options.tokens, options.seconds)
    sets = make_sets(options.model, load, options.prompts, options.runs)
    with tempfile.TemporaryDirectory(prefix="gateway-peers-") as folder:
        launcher = Launcher(options.model, max(load.clients), Path(folder))
        rounds = Rounds(sets, load, options.runs, launcher.start, partial(product_rate, launcher.threads), _say)
        ready = list(_prepared(launcher, rivals, left))
        findings, remarks = measure_classes(rounds, ready, launcher.crowding)
    show(findings, rounds, options.model, remarks + report.endings(findings, left))
    if options.json:
        found = {"findings": findings, "not run": left, "remarks": remarks}
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
    parser.add_argument("--runs", default=2, type=int, help="of each level, of which each figure is the median")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def _names(known: tuple[str, ...]):
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return names

    return read


def make_sets(model: str, load: Load, names: list[str], runs: int) -> dict[str, list[str]]:
    """Make the prompts of each set, as many as all levels have in all runs."""
    render = weights.renderer(weights.folder_of(model, tools() / "models"))
    sources = {"random": random_prompts(_SEED), "chat": chat_prompts(render)}
    return {name: [sources[name](number) for number in range(load.prompts() * runs)] for name in names}


def _prepared(launcher: Launcher, rivals: list[Rival], left: dict[str, str]):
    for rival in rivals:
        _say(f"{rival.name}: installing")
        try:
            launcher.prepare(rival)
        except NotInstalled as error:
            left[rival.name] = str(error)
        else:
            yield rival


def measure_classes(
    rounds: Rounds, rivals: list[Rival], crowding: Callable[[list[Rival]], str]
) -> tuple[list[Finding], list[str]]:
    """Measure class by class, and our engine alone behind the servers of its class.

    Return the findings, and a remark for each class whose servers `crowding` keeps from being up together.
    """
    findings, remarks = [], []
    for precision in CLASSES:
        own = [rival for rival in rivals if rival.precision == precision]
        together = [rival for rival in own if not rival.alone]
        if why := crowding(together):
            remarks.append(f"{precision}: one server up at a time, for {why}")
            _say(remarks[-1])
        findings += rounds.one_by_one(together) if why else rounds.together(together)
        findings += rounds.together([rival for rival in own if rival.alone])
    return findings, remarks


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(findings: list[Finding], rounds: Rounds, model: str, remarks: list[str]) -> None:
    """Print a table for each set of prompts, and what belongs under them."""
    console, clients = Console(width=200, highlight=False), rounds.load.clients
    for name in rounds.sets:
        rows = report.merge(findings, name)
        if rows:
            console.print(report.tabled(rows, clients, f"{model}, {name} prompts, {rounds.load.tokens} tokens"))
            for line in (*report.own_gains(rows, clients), *report.notes(rows)):
                console.print(line, markup=False)
    for line in remarks:
        console.print(line, markup=False)
    console.print("x: the share of the best other server in the class; of times, less is better.")
    console.print("MiB and used: memory once ready, and at the end; GFLOP/s: what the machine itself did beside it.")


if __name__ == "__main__":
    sys.exit(main())
