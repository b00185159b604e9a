"""What the scripts share: where the service is, what it tells, how claims are checked."""

import asyncio
import json
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable

URL = os.environ["GATEWAY_URL"]
# A model that scores pairs, what it is asked, and how transformers by itself scores that.
PAIRS = json.loads(os.environ["GATEWAY_PAIRS"])
KEY = os.environ["GATEWAY_KEY"]
# After 20 requests this key has one more every 3 s.
POOR_KEY = os.environ["GATEWAY_POOR_KEY"]
POOR_REQUESTS = 20
ROUNDS = 10
# Seconds for one request: it ends what hangs, on a machine however busy.
PATIENCE = 240.0
# Seconds; no client waits so long before its first retry unless it is told to.
OWN_WAIT = 1.0

MODEL = "smollm2-135m-instruct"
SCRIPTED = "scripted"
VECTORS = "all-minilm-l6-v2"
TOPICS = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell on Monday."]
ASKED = "What is the capital of France?"
QUESTION = [{"role": "user", "content": ASKED}]
# The second one answers the question.
ANSWERS = ["Bananas are yellow.", "Paris is the capital of France.", "The river flows to the sea."]
# Tokens that an answer only has where nobody stops it.
MANY = 4_000
PROMPT = "The capital of France is"

# Cohere's API has its scores rounded.
_ROUNDING = 1e-4
# Scrapes within a second share one rendering.
_SCRAPE_SECONDS = 1.1

_claims = []


def check(claim):
    """Have `run` call this; its name is what it claims."""
    _claims.append(claim)
    return claim


def run() -> None:
    """Call every claim and print a line for each; the exit code is 1 where one failed."""
    # In one loop: what a claim leaves open is closed in the loop that opened it.
    with asyncio.Runner() as loop:
        failed = sum(not _holds(claim, loop) for claim in _claims)
    sys.exit(failed > 0)


def _holds(claim: Callable, loop: asyncio.Runner) -> bool:
    name = claim.__name__.replace("_", " ")
    try:
        result = claim()
        if asyncio.iscoroutine(result):
            loop.run(result)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is to be told
        traceback.print_exc()
        print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        return False
    print(f"ok {name}", flush=True)
    return True


def refused(kind: type[BaseException], call: Callable, *arguments, **fields) -> BaseException:
    """Call, and return the error that comes, which must be of this kind."""
    try:
        answer = call(*arguments, **fields)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} did not come, but {answer!r}")


WEATHER = "What is the weather in Paris?"
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TRIES = 20


def is_call(name: str, arguments: dict[str, object]) -> bool:
    """Tell whether this is a call of the tool `get_weather` as its schema, `SCHEMA`, has it."""
    days = arguments.get("days")
    return (
        name == "get_weather"
        and arguments == {"city": arguments.get("city"), "days": days}
        and (arguments["city"] in ("Paris", "Rome") and isinstance(days, int) and 1 <= days <= 7)
    )


def knows_topics(vectors: list[list[float]]) -> None:
    """Claim that the first two of three vectors are near each other, and far from the third: those of `TOPICS`."""
    first, second, third = vectors
    assert len(first) == 384
    near, far = (sum(a * b for a, b in zip(first, other, strict=True)) for other in (second, third))
    assert near > 3 * abs(far), (near, far)


def is_ranking(ranked: list[tuple[int, float]], count: int) -> None:
    """Claim that these places of `PAIRS`, with their scores, are its `count` best, in order."""
    best = sorted(enumerate(PAIRS["scores"]), key=lambda pair: -pair[1])[:count]
    assert [place for place, _ in ranked] == [place for place, _ in best], (ranked, best)
    assert all(abs(seen - own) < _ROUNDING for (_, seen), (_, own) in zip(ranked, best, strict=True)), (ranked, best)


def play(**script) -> list[dict[str, str]]:
    """Write the conversation that makes the scripted engine follow this script."""
    return [{"role": "user", "content": json.dumps({"script": script})}]


def requests_of(ask: Callable[[], object]) -> int:
    """Count the requests that the service answers while `ask` runs."""
    before = _answered()
    ask()
    return _answered() - before


def running() -> int:
    """Count the requests of this key that the service holds."""
    return len(json.loads(_get("/v1/requests"))["data"])


def eventually(look: Callable[[], object], seconds: float = 60.0) -> None:
    """Look until it is true."""
    until = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.05)


def is_patient(ask: Callable[[int], object], limited: type[BaseException]) -> None:
    """Claim that `ask(1)` waits as it is told where `ask(0)` is refused with `limited`: one retry is enough.

    On a busy machine the poor key may have a request again before `ask(1)` comes; that shows nothing: again.
    """
    for _ in range(ROUNDS):
        _use_up(ask, limited)
        began = time.monotonic()
        ask(1)
        if time.monotonic() - began > OWN_WAIT:
            return
    raise AssertionError(f"in {ROUNDS} rounds it never waited")


def _use_up(ask: Callable[[int], object], limited: type[BaseException]) -> None:
    for _ in range(ROUNDS * POOR_REQUESTS):
        try:
            ask(0)
        except limited:
            return
    raise AssertionError(f"{ROUNDS * POOR_REQUESTS} requests were let in")


def _answered() -> int:
    time.sleep(_SCRAPE_SECONDS)
    samples = (line.rpartition(" ") for line in _get("/metrics").splitlines())
    return sum(int(float(value)) for name, _, value in samples if _is_answer(name))


def _is_answer(name: str) -> bool:
    return name.startswith("llm_gateway_requests_total{") and any(
        f"/{end}" in name for end in ("completions", "messages", "responses")
    )


def _get(path: str) -> str:
    request = urllib.request.Request(URL + path, headers={"authorization": f"Bearer {KEY}"})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own
        return answer.read().decode()
