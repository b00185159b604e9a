"""Prints the results of a run."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.cli.bench.plan import Plan
from gateway.cli.bench.report import LevelReport, Spread
from gateway.cli.bench.target import BenchTarget

_LATENCIES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "between frames",
    "e2e": "whole answer",
}
_BUSY = 0.8
_LATE_SECONDS = 0.01


def show(plan: Plan, target: BenchTarget, reports: Sequence[LevelReport]) -> None:
    """Print the tables, and what has to be known to read them."""
    console = Console(highlight=False)
    console.print(_heading(plan, target), markup=False)
    console.print(_throughput(reports), _latency(reports), sep="")
    for note in _notes(plan, reports):
        console.print(note, markup=False)


def _heading(plan: Plan, target: BenchTarget) -> str:
    shared = f", {plan.shared_prefix:.0%} of them shared" if plan.shared_prefix else ""
    length = f"{plan.output_tokens} tokens" if target.exact else f"at most {plan.output_tokens} tokens"
    return (
        f"{target.model or 'the default model'} at {target.url}\n"
        f"prompts of {plan.prompt_words} words{shared}; answers of {length}; seed {plan.seed}"
    )


def _throughput(reports: Sequence[LevelReport]) -> Table:
    table = Table("load", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("answers", "failed", "seconds", "tokens/s", "requests/s", "cached", "own CPU"):
        table.add_column(title, justify="right")
    for report in reports:
        table.add_row(
            report.level.name,
            str(report.requests),
            str(report.failed),
            f"{report.seconds:.2f}",
            f"{report.tokens_per_second:.1f}",
            f"{report.requests_per_second:.2f}",
            "-" if report.cached_share is None else f"{report.cached_share:.0%}",
            f"{report.client_cpu:.2f} s",
        )
    return table


def _latency(reports: Sequence[LevelReport]) -> Table:
    table = Table("load", "milliseconds", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("mean", "p50", "p90", "p99"):
        table.add_column(title, justify="right")
    for report in reports:
        for name, title in _LATENCIES.items():
            spread: Spread | None = getattr(report, name)
            if spread is not None:
                values = (spread.mean, spread.p50, spread.p90, spread.p99)
                table.add_row(report.level.name, title, *(f"{value * 1e3:.1f}" for value in values))
        table.add_section()
    return table


def _notes(plan: Plan, reports: Sequence[LevelReport]) -> list[str]:
    notes = []
    for report in reports:
        name = f"{report.level.name}: "
        notes += [f"{name}{times} times: {error}" for error, times in report.errors.items()]
        if report.interrupted:
            notes.append(f"{name}interrupted; only what had finished is counted")
        if report.uncounted:
            notes.append(f"{name}{report.uncounted} answers came without usage; their tokens are not counted")
        if report.inexact:
            notes.append(f"{name}{report.inexact} answers had another length than {plan.output_tokens} tokens")
        if report.client_share > _BUSY:
            notes.append(f"{name}the generator took {report.client_share:.0%} of a core: it may be the bottleneck")
        if report.delay is not None and report.delay.p99 > _LATE_SECONDS:
            notes.append(f"{name}the generator sent late, by {report.delay.p99 * 1e3:.0f} ms at p99")
    return notes
