"""What an engine computes, loads and keeps, when that is slow, broken or damaged."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.attack.shortages import back
from tests.attack.table import attack
from tests.attack.target import Target
from tests.chaos.row import Row, at_most, none_of
from tests.support.processes import engines
from tests.support.service import Service
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_models import make_tiny

_SETTING = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
_FAULTS = ("bug", "panic", "quit", "interrupt", "cut", "raise")
_HANG = 1.5
_WORDS = 1_500
_QUESTION = {"prompt": "Once upon a time", "max_new_tokens": 12, "temperature": 0, "ignore_eos": True}
# A template that computes for ever, and a model of more layers than there can be.
_TEMPLATES = ("{{ 10**(10**8) }}", "{% for a in range(10**9) %}{% endfor %}", "{{ 'a' * 10**9 }}")


@attack(seconds=6.0)
def faults_of_an_engine(target: Target) -> Iterator[Row]:
    """Have an engine raise what none may, before and within answers: each is an error of one call."""
    before, answers = set(engines(target.main)), []
    for fault in _FAULTS:
        for after in (-1, 1):
            script = json.dumps({"script": {"texts": ["a "] * 3, "fault": fault, "after": after}})
            answers.append(target.post("/v1/generate", {"model": "scripted", "prompt": script}))
    rude = [f"{answer.status_code} {answer.text[:60]}" for answer in answers if "error" not in answer.json()]
    yield Row("answers without a typed error", "none", "; ".join(rude) or f"none of {len(answers)}", not rude)
    yield none_of("engines that died", len(before - set(engines(target.main))), len(before))
    yield back(target)


@attack(seconds=6.0)
def prompts_that_are_left(target: Target) -> Iterator[Row]:
    """Leave while the prompt is read, over and over: each is charged, so a key's tokens end."""
    script = json.dumps({"script": {"texts": ["a"], "prefill": 5.0}, "filler": "x " * 400})
    for number in range(12):
        body = {"model": "scripted", "prompt": f"{number} {script} " + "word " * 400, "stream": True}
        connection = target.hold(json.dumps(body).encode(), key="limited")
        time.sleep(0.15)
        connection.reset()
    answer = target.post("/v1/generate", {"model": "echo", "prompt": "word " * 1_000}, "limited")
    yield Row("a key that left twelve prompts of 400 words", "429", str(answer.status_code), answer.status_code == 429)


@attack(seconds=30.0)
def prompt_that_takes_long(target: Target) -> Iterator[Row]:
    """Have a prompt read that takes longer than an engine may stand still."""
    values = {"KERNELS": "off", "THREADS": "1", "STEP_TOKENS": "4096"}
    environment = {_SETTING + name: value for name, value in values.items()}
    environment["LLM_GATEWAY__ENGINES__DEFAULT__HANG_SECONDS"] = str(_HANG)
    with Service(ENGINE="hf", **environment) as service:
        before, began = engines(service.process.pid), time.monotonic()
        service.client.timeout = 120
        answer = service.generate(prompt="one two " * (_WORDS // 2), max_new_tokens=1)
        seconds = time.monotonic() - began
        same = engines(service.process.pid) == before
    yield Row(
        f"{_WORDS} words, where {_HANG} s of silence are a hang",
        "200, the same engine",
        f"{answer.status_code} after {seconds:.1f} s, {'the same engine' if same else 'another engine'}",
        answer.status_code == 200 and same,
    )


@attack(seconds=40.0)
def hostile_models(target: Target) -> Iterator[Row]:
    """Load models whose templates compute for ever, and one of a hundred million layers."""
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = make_tiny("llama", Path(name, "tiny"))
        for template in _TEMPLATES:
            (folder / "chat_template.jinja").write_text(template)
            with Service(ENGINE="hf", MODEL_NAME=str(folder)) as service:
                chat = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
                status = service.client.post("/v1/chat/completions", json=chat).status_code
                served = service.generate(**_QUESTION).status_code
                yield Row(
                    f"{template}: a chat, a text", "400, 200", f"{status}, {served}", (status, served) == (400, 200)
                )
        config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 10**8}
        (folder / "config.json").write_text(json.dumps(config))
        began = time.monotonic()
        with Service(ENGINE="hf", MODEL_NAME=str(folder), ready=False) as service:
            code = service.process.wait(30)
        yield Row("a hundred million layers: exit code", "3", str(code), code == 3)
        yield at_most("a hundred million layers: refused after", time.monotonic() - began, 15, " s")


@attack(seconds=60.0)
def damaged_cache(target: Target) -> Iterator[Row]:
    """Flip a bit of the kept weights, halve the kernels, hand a file to another user: all is made again."""
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        source = make_tiny_gguf(make_tiny("llama", folder / "tiny"), folder / "tiny.gguf")
        values = {"MODEL": str(source), "DTYPE": "float32", "CACHE_FOLDER": str(folder / "cache")}
        environment = {_SETTING + key: value for key, value in values.items()}
        with Service(ENGINE="hf", **environment) as service:
            first = service.generate(**_QUESTION).json()
        damaged = _damage(folder / "cache")
        with Service(ENGINE="hf", LOG_LEVEL="WARNING", **environment) as service:
            again = service.generate(**_QUESTION).json()
            told = "\n".join(str(line.get("message", "")) for line in service.lines)
        same = again["generated_text"] == first["generated_text"]
        yield Row("the answer of what was made again", "the same", "the same" if same else "another", same)
        silent = [what for what in damaged if what not in told]
        yield Row(
            "damage that the log does not name", "none", ", ".join(silent) or f"none of {len(damaged)}", not silent
        )


def _damage(cache: Path) -> list[str]:
    """Damage what there is, and return the names of the folders."""
    (weights,), kernels = cache.glob("tiny-*/model.safetensors"), [*cache.glob("kernels-*/kernels.so")]
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)
    for library in kernels:
        library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])
    with suppress(OSError):
        os.chown(weights.parent / "config.json", 65_534, 65_534)
    return [path.parent.name for path in (weights, *kernels)]
