"""Six real models with room for two, under random traffic: each answer is right, and two are in memory at most."""

import random
import threading
import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.linux import resident_bytes
from tests.support.processes import engines, worker
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOM = 2
SECONDS, LEAST = 40.0, 200
# A process of its own takes seconds for its imports alone: many clients wait for each load, so it has many answers.
CLIENTS = {True: 96, False: 8}
# What memory may grow by in the second half of the time, in bytes.
GROWTH = 200 << 20
PROMPTS = ("The quick brown fox", "Once upon a time there was", "def main():", "The capital of France is")
# All clients may wait for one model: none is refused.
SERVICE = f"""
[models]
max_loaded = {ROOM}
[cache]
enabled = false
[admission]
waiters_per_place = {CLIENTS[True]}
queue_seconds = 300
"""
ENGINE = """
[engines.m{number}]
plugin = "hf"
load = "demand"
isolated = {isolated}
settings = {{ model = "{folder}", dtype = "float32", kernels = "off", threads = 1, places = 4 }}
"""


def answer_of(folder, prompt):
    """What the model says by transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        made = model.generate(**asked, max_new_tokens=8, do_sample=False)
    return tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "in the worker"])
def test_random_traffic_to_six_models_with_room_for_two(tmp_path, isolated):
    folders = [make_tiny("llama", tmp_path / f"m{number}", seed=number) for number in range(6)]
    right = {
        (f"m{number}", prompt): answer_of(folder, prompt) for number, folder in enumerate(folders) for prompt in PROMPTS
    }
    file = tmp_path / "gateway.toml"
    is_isolated = str(isolated).lower()
    parts = [ENGINE.format(number=number, folder=folder, isolated=is_isolated) for number, folder in enumerate(folders)]
    file.write_text(SERVICE + "".join(parts))
    wrong, waits, held = [], [], []
    with Service("--config", str(file), ENGINE="") as service:
        ends = time.monotonic() + SECONDS

        def client(seed):
            draw = random.Random(seed)  # noqa: S311 - no secret
            while time.monotonic() < ends or len(waits) < LEAST:
                model, prompt = f"m{draw.randrange(6)}", draw.choice(PROMPTS)
                asked = {"temperature": 0, "max_new_tokens": 8, "return_full_text": False}
                began = time.monotonic()
                answer = service.client.post(
                    "/v1/generate", json={"model": model, "prompt": prompt, **asked}, timeout=600
                )
                waits.append(time.monotonic() - began)
                if answer.status_code != 200 or answer.json()["generated_text"] != right[model, prompt]:
                    wrong.append((model, prompt, answer.text))

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS[isolated])]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            running = engines(service.process.pid)
            assert len(running) <= (ROOM if isolated else 0)
            if not isolated:
                shown = service.client.get("/v1/models").json()["data"]
                assert sum(model["status"] in ("loaded", "loading") for model in shown) <= ROOM
            held.append(sum(resident_bytes(pid) or 0 for pid in (*running, worker(service.process.pid))))
            time.sleep(0.05)
        loads = service.metric("llm_gateway_model_loads_total", result="ok")
        evictions = service.metric("llm_gateway_model_evictions_total", reason="room")
        failed = service.metric("llm_gateway_model_loads_total", result="failed")
    half = len(held) // 2
    before, after = max(held[:half]), max(held[half:])
    print(
        f"{len(waits)} answers, {len(wrong)} wrong; {loads:.0f} loads, {evictions:.0f} evictions; longest wait"
        f" {max(waits):.1f} s; {before >> 20} MiB at most in the first half, {after >> 20} in the second"
    )
    assert wrong == []
    assert (failed, evictions) == (0, loads - ROOM)
    assert loads > ROOM
    assert len(waits) >= LEAST
    assert after < before + GROWTH
