"""Every limit at its edge, every number out of its range, and the limits of a key in a race."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.attack.table import attack
from tests.attack.target import Target
from tests.attack.transport import typed
from tests.chaos.row import Row, at_most, none_of
from tests.support.rawhttp import JSON, exchange, request
from tests.support.service import free_port

_START_SECONDS = 8.0
# A field, a value at the edge that is taken, and one beyond it that is refused.
_EDGES: dict[str, tuple[object, object]] = {
    "temperature": (2, 2.0001),
    "top_p": (0, 1.0001),
    "top_k": (0, -2),
    "min_p": (1, 1.0001),
    "repetition_penalty": (0.5, 1e-320),
    "frequency_penalty": (-2, -2.001),
    "presence_penalty": (2, 2.001),
    "n": (1, 1_000_000),
    "seed": (2**63 - 1, 2**70),
    "stop": (["s"] * 16, ["s"] * 17),
    "logprobs": (1, 10**9),
    "logit_bias": ({"5": 100}, {"5": 1e9}),
    "max_tokens": (1, 10**30),
    "min_tokens": (0, 10**9),
    "timeout": (1, -1),
}
_VARIABLES = {
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100000",
    "OTEL_BSP_SCHEDULE_DELAY": "never",
    "LLM_GATEWAY__SERVER__PORT": "99999999",
}


@attack()
def numbers_at_the_edge(target: Target) -> Iterator[Row]:
    """Send each parameter at its edge and beyond, in OpenAI's dialect, to the model."""
    wrong, asked = [], 0
    for field, (edge, beyond) in _EDGES.items():
        for value, expected in ((edge, {200}), (beyond, {400})):
            body = {"model": "tiny", "prompt": "a", "max_tokens": 2} | {field: value}
            answer = target.post("/v1/completions", body)
            asked += 1
            if answer.status_code not in expected | ({200, 400} if value is edge else set()):
                wrong.append(f"{field}={value!r} {answer.status_code}"[:60])
    yield Row("wrong statuses", "none", "; ".join(wrong) or f"none of {asked}", not wrong)


@attack()
def heads_at_the_edge(target: Target) -> Iterator[Row]:
    """Send lengths, times and headers that are no numbers, or too many."""
    bearer = f"Authorization: Bearer {target.keys['attacker']}"
    body = b'{"prompt":"a","model":"echo"}'
    heads = {
        "zeros before the length": (f"Content-Length: {'0' * 5_000}{len(body)}",),
        "a negative length": ("Content-Length: -1",),
        "a huge length": (f"Content-Length: {'9' * 40}",),
        "a timeout of no time": (f"Content-Length: {len(body)}", "X-Request-Timeout: 1e-9"),
        "an infinite timeout": (f"Content-Length: {len(body)}", "X-Request-Timeout: inf"),
        "99 headers": (f"Content-Length: {len(body)}", *(f"X-{n}: 1" for n in range(90))),
        "a header of 30 KB": (f"Content-Length: {len(body)}", f"X-Long: {'a' * 30_000}"),
    }
    statuses = {
        what: exchange(target.service.port, request("POST", "/v1/generate", JSON, bearer, *head), body).status
        for what, head in heads.items()
    }
    rude = {what: status for what, status in statuses.items() if status >= 500 and status != 504}
    yield Row("answers of 5xx but 504", "none", str(rude or f"none of {len(statuses)}"), not rude)


@attack()
def limits_in_a_race(target: Target) -> Iterator[Row]:
    """Spend a key's twenty requests a minute all at once."""
    began = time.monotonic()
    answers = target.many(60, lambda _: target.post("/v1/generate", {"prompt": "a", "model": "echo"}, "limited"))
    earned = int((time.monotonic() - began) / 3) + 1
    counts = Counter(getattr(answer, "status_code", 0) for answer in answers)
    yield at_most("requests that a limit of 20 a minute let through", counts[200], 20 + earned)
    yield none_of("answers but 200 and 429", len(answers) - counts[200] - counts[429], len(answers))


@attack()
def one_request_is_one(target: Target) -> Iterator[Row]:
    """Ask for two choices and for two prompts with a key that may run one request at a time."""
    two = {"model": "scripted", "n": 2, "temperature": 1, "seed": 1, "prompt": "a", "max_tokens": 3}
    both = {"model": "scripted", "prompt": ["a", "b"], "max_tokens": 3}
    for what, body in {"choices": two, "prompts": both}.items():
        answer = target.post("/v1/completions", body, "single")
        choices = len(answer.json().get("choices", []))
        yield Row(f"two {what} of one request", "200, 2", f"{answer.status_code}, {choices}", choices == 2)


@attack()
def leaders_that_leave(target: Target) -> Iterator[Row]:
    """Share an answer, and leave it to the other: what was made is charged to a caller that has it."""
    script = '{"script":{"texts":["tick "],"delay":0.05}}'
    body = {"model": "scripted", "prompt": script, "ignore_eos": True, "max_new_tokens": 40, "seed": 7}
    leader = target.hold(json.dumps(body).encode(), key="single")
    time.sleep(0.1)
    follower = target.many(1, lambda _: target.post("/v1/generate", body, "single"))
    leader.reset()
    yield typed(follower, "the follower's answer")


@attack(seconds=20.0)
def nonsense_in_the_environment(target: Target) -> Iterator[Row]:
    """Start the service with variables that nothing can mean: one line and exit 2, at once."""
    for name, value in _VARIABLES.items():
        began = time.monotonic()
        ended = _start({"PORT": str(free_port()), "ENGINE": "echo", name: value})
        yield Row(
            f"{name}={value}",
            "exit 2 within 5 s",
            f"exit {ended} after {time.monotonic() - began:.1f} s",
            ended == 2 and time.monotonic() - began < 5,
        )


@attack(seconds=8.0)
def second_service(target: Target) -> Iterator[Row]:
    """Start another service on the same port: it ends at once, and takes no connection."""
    ended = _start({"PORT": str(target.service.port), "ENGINE": "echo"})
    yield Row("the second service's exit code", "2", str(ended), ended == 2)


def _start(environment: dict[str, str]) -> int | None:
    """Run the command until it ends; `None` where it still runs after a while."""
    inherited = {"PATH": os.environ["PATH"], "LLM_GATEWAY__TELEMETRY__OTLP_ENDPOINT": "http://127.0.0.1:9"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve"],
        env=inherited | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None
