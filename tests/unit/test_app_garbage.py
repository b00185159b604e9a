"""A request that is over is gone: nothing of it waits for the collector, whose full rounds are rare."""

import asyncio
import gc
from collections import Counter

import pytest

from gateway.config import Config, EngineSettings, ServerSettings, TelemetrySettings
from tests.support.in_process import ask, running
from tests.support.observe import play

ROUNDS = 10
CONFIG = Config(
    engines={
        "default": EngineSettings(plugin="scripted", settings={"places": ROUNDS}),
        "apart": EngineSettings(plugin="scripted", settings={"places": ROUNDS, "model": "apart"}, isolated=True),
    },
    server=ServerSettings(stall_seconds=0.01, max_body_bytes=65_536),
    telemetry=TelemetrySettings(log_level="CRITICAL"),
)
SOON = (b"x-request-timeout", b"0.02")


def chat(text, **rest):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 16, **rest}


def completion(text, **rest):
    return {"prompt": text, **rest}


DIALECTS = {
    "/v1/generate": completion,
    "/v1/completions": completion,
    "/v1/chat/completions": chat,
    "/v1/messages": chat,
}
SLOW = play(delay=0.02)
FAILING = play(fault="raise", after=1)
FAILING_FIRST = play(fault="raise", after=-1)
BUGGY = play(fault="bug", after=1)
# What a client asks for, and how it behaves, in every dialect.
TEXTS = {
    "answered": ("a b c", (), {}),
    "failed": (FAILING, (), {}),
    "failed at once": (FAILING_FIRST, (), {}),
    "failed by a bug": (BUGGY, (), {}),
    "cut off": (play(fault="cut", after=1), (), {}),
    "left": (SLOW, (), {"leaves": 0.01}),
    "left before anything": (play(prefill=0.05), (), {"leaves": 0.01}),
    "cancelled": (SLOW, (), {"cancels": 0.01}),
    "late": (play(prefill=0.05), (SOON,), {}),
    "late in the middle": (play(delay=0.01), (SOON,), {}),
}
REFUSED = {
    "an invalid value": lambda body: body("a", temperature="x"),
    "a missing field": lambda _: {},
    "no JSON": lambda _: b"{",
    "a wrong name": lambda body: body("a", tempurature=1),
    "an unknown model": lambda body: body("a", model="another"),
    "a large body": lambda _: b"x" * 70_000,
}
QUESTIONS = {
    "/tokenize": completion("a b"),
    "/detokenize": {"tokens": [0]},
    "/apply-template": chat("a b"),
    "/v1/messages/count_tokens": chat("a b"),
}


def spoken():
    """List the kinds of every dialect by their names: path and body, headers, and how the client behaves."""
    for path, body in DIALECTS.items():
        for name, (text, headers, how) in TEXTS.items():
            for form, rest in (("whole", {}), ("stream", {"stream": True})):
                yield f"{path} {form} {name}", path, body(text, temperature=0.5, **rest), headers, how
                yield f"{path} {form} shared {name}", path, body(text, temperature=0, **rest), headers, how
        yield f"{path} stream stalled", path, body("a b", temperature=0.5, stream=True), (), {"stalls": True}
        for name, refused in REFUSED.items():
            yield f"{path} {name}", path, refused(body), (), {}


def several():
    """List those with several answers or prompts."""
    for path in ("/v1/completions", "/v1/chat/completions"):
        for name in ("answered", "failed", "failed at once", "failed by a bug", "left", "late in the middle"):
            text, headers, how = TEXTS[name]
            for form, rest in (("whole", {}), ("stream", {"stream": True})):
                body = DIALECTS[path](text, temperature=0.5, n=2, **rest)
                yield f"{path} {form} two choices {name}", path, body, headers, how
    for name, text in (("answered", "a"), ("failed", FAILING_FIRST), ("failed by a bug", BUGGY)):
        yield f"two prompts {name}", "/v1/completions", completion(["a", text], temperature=0.5), (), {}


def others():
    """List those of an isolated engine, questions, and requests that no engine sees."""
    for name in ("answered", "failed", "failed at once", "left", "late"):
        text, headers, how = TEXTS[name]
        yield f"isolated {name}", "/v1/generate", completion(text, temperature=0.5, model="apart"), headers, how
    for path, body in QUESTIONS.items():
        yield f"{path} answered", path, body, (), {}
        yield f"{path} isolated", path, body | {"model": "apart"}, (), {}
        yield f"{path} refused", path, {}, (), {}
    yield "/detokenize failed", "/detokenize", {"tokens": [9_999]}, (), {}
    yield "waiting", "/v1/generate", completion("a", stream=True), ((b"prefer", b"queue-updates"),), {}
    for path in ("/livez", "/v1/models", "/v1/requests", "/nowhere", "/schema/openapi.json"):
        yield f"GET {path}", path, b"", (), {"method": "GET"}
    yield "another method", "/v1/generate", b"", (), {"method": "DELETE"}
    yield "another host", "/livez", b"", ((b"host", b"evil.example"),), {"method": "GET"}
    yield "a form", "/v1/generate", b"a=b", ((b"content-type", b"text/plain"),), {}


KINDS = {name: rest for name, *rest in (*spoken(), *several(), *others())}


async def count():
    """Let each kind of request come `ROUNDS` times with the collector off; count what it would have found."""
    found = {}
    async with running(CONFIG) as app:
        gc.freeze()  # a collection looks at what comes from now on, not at all that the tests have loaded
        for name, (path, body, headers, how) in KINDS.items():
            await ask(app, path, body, *headers, **how)  # what is made once is no garbage
            await asyncio.sleep(0.01)
            gc.collect()
            gc.disable()
            try:
                await asyncio.gather(*(ask(app, path, body, *headers, **how) for _ in range(ROUNDS)))
                await asyncio.sleep(0.01)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                found[name] = Counter(type(each).__qualname__ for each in gc.garbage)
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
    return found


@pytest.fixture(scope="module")
def garbage():
    return asyncio.run(count())


def test_there_are_a_thousand_requests():
    assert len(KINDS) * ROUNDS >= 1_000


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_leaves_garbage(garbage, kind):
    assert {name: number for name, number in garbage[kind].items() if number >= ROUNDS} == {}
