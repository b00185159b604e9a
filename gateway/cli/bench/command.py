"""`llm-gateway bench`: run the plan, print, and write what was asked for."""

import argparse
import asyncio
import importlib
import ssl
import sys
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.cli.bench.client import Client
from gateway.cli.bench.flags import FlagError, to_plan
from gateway.cli.bench.plan import Plan
from gateway.cli.bench.progress import Display
from gateway.cli.bench.report import LevelReport
from gateway.cli.bench.sweep import sweep
from gateway.cli.bench.table import show
from gateway.cli.bench.target import BenchTarget, TargetError

_WRONG_USAGE = 2


def run(options: argparse.Namespace, url: str) -> int:
    """Measure the server at `url` as the flags say; return 0, 1 where nothing was answered, 2 for wrong usage."""
    try:
        plan = to_plan(options, url)
        _check_outputs(options)
    except FlagError as error:
        return _complain(str(error), _WRONG_USAGE)
    try:
        target, reports = asyncio.run(_measure(plan, options.trust))
    except TargetError as error:
        return _complain(str(error), 1)
    show(plan, target, reports)
    try:
        _write(options, plan, target, reports)
    except OSError as error:
        return _complain(str(error), 1)
    return 0 if any(report.requests for report in reports) else 1


async def _measure(plan: Plan, trust: ssl.SSLContext | None) -> tuple[BenchTarget, list[LevelReport]]:
    async with Client(plan, trust) as client:
        with Display() as display:
            return client.target, [report async for report in sweep(plan, client.ask, display)]


def _check_outputs(options: argparse.Namespace) -> None:
    """Find out before the run, not after it, what cannot be written."""
    if options.plot:
        try:
            importlib.import_module("matplotlib")
        except ImportError as error:
            raise FlagError("--plot needs matplotlib: pip install 'llm-gateway[plot]'") from error
    for file in filter(None, (options.json, options.plot)):
        if not Path(file).parent.is_dir():
            raise FlagError(f"{file}: there is no such folder")


def _write(options: argparse.Namespace, plan: Plan, target: BenchTarget, reports: list[LevelReport]) -> None:
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(_as_json(plan, target, reports)) + b"\n")
    if options.plot and reports:
        from gateway.cli.bench.plot import draw  # noqa: PLC0415 - matplotlib is an extra

        draw(reports, f"{target.model or 'default model'} at {target.url}", options.plot)


def _as_json(plan: Plan, target: BenchTarget, reports: list[LevelReport]) -> bytes:
    asked = msgspec.to_builtins(plan)
    for secret in ("api_key", "levels"):
        del asked[secret]
    levels = [report.as_json() for report in reports]
    return msgspec.json.encode({"version": __version__, "plan": asked, "target": target, "levels": levels})


def _complain(message: str, code: int) -> int:
    print(f"llm-gateway: {message}", file=sys.stderr)
    return code
