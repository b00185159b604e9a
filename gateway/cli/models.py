"""`llm-gateway models` and `llm-gateway requests`: what a running gateway has, and what it is at."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from gateway.cli.abilities import to_table
from gateway.cli.client import FOREIGN, GatewayClient, GatewaySaysNo, complain, printable
from gateway.cli.listing import print_json, print_table

_MODELS = {
    "model": "id",
    "engine": "engine",
    "loaded": "loaded",
    "context": "context_window",
    "device": "device",
    "dtype": "dtype",
    "note": "note",
}
REQUESTS = {
    "id": "id",
    "model": "model",
    "phase": "phase",
    "position": "position",
    "prompt": "prompt_tokens",
    "tokens": "tokens",
    "seconds": "seconds",
    "key": "key",
}


def show_models(options: argparse.Namespace, client: GatewayClient) -> int:
    """Print the models, or as a table what each can do; return the exit code."""
    return _answer(client, lambda: _print_models(options, client.ask("/v1/models")["data"]))


def show_requests(options: argparse.Namespace, client: GatewayClient) -> int:
    """Print the requests that wait or run, or end one of them; return the exit code."""
    if options.cancel is not None:
        path = f"/v1/requests/{quote(options.cancel, safe='')}"
        return _answer(client, lambda: _print_ended(options, client.ask(path, "DELETE")))
    return _answer(client, lambda: _print_requests(options, client.ask("/v1/requests")["data"]))


def to_cells(columns: Mapping[str, str], found: Mapping[str, Any]) -> list[str]:
    """Write what was found, by the keys of the columns."""
    return [_shown(found[key]) for key in columns.values()]


def _answer(client: GatewayClient, work: Callable[[], None]) -> int:
    try:
        with client:
            work()
    except GatewaySaysNo as error:
        return complain(str(error))
    except FOREIGN as error:
        return complain(client.away(error))
    return 0


def _print_models(options: argparse.Namespace, models: Sequence[Mapping[str, Any]]) -> None:
    if options.json:
        print_json(models)
    elif options.table:
        print(to_table({_column(model, models): model["capabilities"] for model in models}), end="")
    else:
        print_table(list(_MODELS), [to_cells(_MODELS, model) for model in models])


def _print_requests(options: argparse.Namespace, requests: Sequence[Mapping[str, Any]]) -> None:
    if options.json:
        print_json(requests)
    else:
        print_table(list(REQUESTS), [to_cells(REQUESTS, request) for request in requests])


def _print_ended(options: argparse.Namespace, ended: Mapping[str, Any]) -> None:
    if options.json:
        print_json(ended)
    else:
        print(f"{printable(str(ended['id']))} is ended")


def _column(model: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Name a model's engine, and the model too where the engine has several."""
    engine = str(model["engine"])
    return engine if sum(other["engine"] == engine for other in models) == 1 else f"{engine}: {model['id']}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "-" if value is None else printable(str(value))
