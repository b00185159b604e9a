"""Draws what a run found; needs matplotlib, which is the extra `plot`."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gateway.cli.bench.report import LevelReport, Spread

_LATENCIES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "whole answer"}


def draw(reports: Sequence[LevelReport], title: str, file: str) -> None:
    """Write a PNG file: the throughput, and three latencies, over the levels."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    throughput, *latencies = figure.subplots(2, 2).flat
    names = [report.level.name for report in reports]
    _draw_throughput(throughput, names, [report.tokens_per_second for report in reports])
    for axes, (name, text) in zip(latencies, _LATENCIES.items(), strict=True):
        _draw_latency(axes, names, [getattr(report, name) for report in reports], text)
    for axes in (throughput, *latencies):
        axes.set_xlabel("requests per second" if reports[0].level.rate is not None else "clients")
        axes.grid(axis="y", alpha=0.3)
        axes.margins(y=0.12)
        axes.set_ylim(bottom=0)
    figure.savefig(file, format="png", dpi=120)


def _draw_throughput(axes: Axes, names: Sequence[str], values: Sequence[float]) -> None:
    bars = axes.bar(names, values, color="#4c72b0")
    axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.set_title("output tokens per second")


def _draw_latency(axes: Axes, names: Sequence[str], spreads: Sequence[Spread | None], title: str) -> None:
    for quantile, shade in (("p50", "#4c72b0"), ("p90", "#dd8452"), ("p99", "#c44e52")):
        found = [(name, getattr(spread, quantile)) for name, spread in zip(names, spreads, strict=True) if spread]
        if found:
            places, values = zip(*found, strict=True)
            axes.plot(places, [value * 1e3 for value in values], marker="o", color=shade, label=quantile)
    if axes.lines:
        axes.legend()
    axes.set_title(f"{title}, milliseconds")
