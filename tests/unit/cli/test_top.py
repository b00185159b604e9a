"""A look at a gateway, drawn."""

import io

from rich.console import Console

from gateway.cli.look import EngineLook, Look
from gateway.cli.scrape import Rates
from gateway.cli.top import render

ENGINES = [
    EngineLook("default", "m", "ready", "", 2, 1, "closed", 700 * 2.0**20, 96.0),
    EngineLook("other", None, "failed", "it is broken", 0, 0, "open", None, None),
]


def request(number):
    return {
        "id": f"r{number}",
        "model": "m",
        "phase": "queued",
        "position": number,
        "prompt_tokens": None,
        "tokens": 0,
        "seconds": 1.25,
        "key": "k\x1b[2J",
    }


def drawn(lines=100, trouble="", **changes):
    facts = {
        "time": 0.0,
        "url": "http://x",
        "status": "ready",
        "detail": "other: it is broken",
        "version": "1.0",
        "uptime": 3700.0,
        "rates": Rates(1.5, 0.5, 0.0, 42.0, 0.25, None),
        "engines": ENGINES,
        "requests": [request(number) for number in range(1, 4)],
        "notes": [],
    }
    console = Console(file=io.StringIO(), width=140)
    console.print(render(Look(**facts | changes), lines, trouble))
    return console.file.getvalue()


def test_a_look_shows_the_service_its_rates_engines_and_requests():
    text = drawn()
    for part in (
        "LLM gateway 1.0 at http://x, ready, up 1 h 1 min: other: it is broken",
        "1.5 requests/s (0.5 refused, 0.0 failed), 42 tokens/s, first token: p50 0.25 s, p95 -",
        "700 MiB",
        "r3",
    ):
        assert part in text


def test_of_more_requests_than_there_is_room_for_the_rest_is_counted():
    text = drawn(lines=14)
    assert "r2" in text
    assert "r3" not in text
    assert "and 1 more" in text


def test_what_the_key_may_not_see_and_what_went_wrong_is_said():
    text = drawn(notes=["no requests: forbidden"], trouble="it does not answer", requests=[], rates=None)
    for part in ("no requests: forbidden", "it does not answer", "\nno requests"):
        assert part in text
    assert "requests/s" not in text


def test_nothing_that_a_client_chose_moves_the_cursor():
    assert "\x1b" not in drawn()
