"""Adapters that PEFT itself has made and saved say what PEFT says, token by token."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.engine import Sampling, Tokens, collect
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.support.hf_engine import ask, numbers

pytestmark = pytest.mark.slow

# Without what they need: torch and transformers are those of this environment.
PACKAGES = ("peft==0.21.2", "accelerate")
PEER = Path(__file__).parents[2] / "support" / "peft_peer.py"
NEW = 24
NEAR = 1e-3
TARGETS = {"llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
TARGETS |= {"gpt2": ["c_attn", "c_proj", "c_fc"], "qwen2": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def peft(tmp_path_factory):
    """Install PEFT beside this environment, and return what asks it."""
    folder = tmp_path_factory.mktemp("peft")
    command = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"PEFT cannot be installed here: {made.stderr.strip()[-200:]}")

    def tell(**asked):
        run = subprocess.run(
            [sys.executable, str(PEER)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(folder)},
        )
        assert run.returncode == 0, run.stderr[-2000:]
        return json.loads(run.stdout[run.stdout.index('{"version"') :])

    return tell


def configs(kind):
    """Make several configurations: of ranks and scales, for a whole model or some of its layers."""
    some = TARGETS[kind]
    wide = {"r": 8, "lora_alpha": 16, "target_modules": some}
    return {
        "plain": wide,
        "stable": wide | {"r": 4, "use_rslora": True},
        "ranks": wide | {"rank_pattern": {some[0]: 2}, "alpha_pattern": {some[-1]: 3}},
        "layer": wide | {"layers_to_transform": [1], "target_modules": some[:1]},
    }


async def answers(engine, model, prompts):
    sampling = Sampling(temperature=0.0, max_tokens=NEW, ignore_eos=True, logprobs=0)
    asked = [msgspec.structs.replace(ask(Tokens(tuple(ids)), sampling), model=model) for ids in prompts]
    return await asyncio.gather(*[collect(engine.generate(each)) for each in asked])


@pytest.mark.parametrize("kind", TARGETS)
async def test_what_peft_saved_says_what_peft_says(peft, tiny, kind, tmp_path):
    base, prompts = tiny(kind), [numbers(length, length) for length in (5, 30)]
    found = await asyncio.to_thread(
        peft, base=str(base), folder=str(tmp_path), prompts=prompts, new=NEW, adapters=configs(kind)
    )
    adapters = {name: str(tmp_path / name) for name in configs(kind)}
    settings = Settings(model=str(base), adapters=adapters, dtype="float32", threads=1, places=8, cache_tokens=2048)
    furthest = 0.0
    async with HfEngine(settings) as engine:
        said = {name: await answers(engine, name, prompts) for name in adapters}
        said[""] = await answers(engine, engine.models()[0].name, prompts)
    for name, told in found["told"].items():
        for answer, wanted in zip(said[name], told, strict=True):
            assert [each.id for each in answer.logprobs] == wanted["tokens"], name
            pairs = zip(answer.logprobs, wanted["logprobs"], strict=True)
            furthest = max(furthest, *(abs(each.logprob - other) for each, other in pairs))
    assert furthest < NEAR
    assert len({json.dumps(told) for told in found["told"].values()}) == len(found["told"])  # each changes something
    print(
        f"PEFT {found['version']}, {kind}: {len(found['told'])} models, log probabilities off by {furthest:.1e} at most"
    )
