"""Adapters over HTTP: models of their own names beside their base, with answers, a cache and rights of their own."""

import asyncio

import httpx
import openai
import pytest

from gateway.auth import KeyFile, Scope
from tests.support.service import Service, total
from tests.support.tiny_adapters import change_config, make_adapter
from tests.support.tiny_models import make_tiny

TEXT = "The quick brown fox jumps over the lazy dog. " * 3
MODELS = ("base", "sql", "law")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    base = make_tiny("llama", folder / "base")
    for seed, name in enumerate(("first", "second", "wrong")):
        make_adapter(base, folder / name, seed=seed)
    change_config(folder / "wrong", use_dora=True)
    return folder


@pytest.fixture(scope="module")
def house(folder):
    """A service with a model, two adapters of it, and an engine whose adapter is refused; three keys."""
    keys = KeyFile(folder / "keys.db")
    engines = {"LLM_GATEWAY__AUTH__FILE": str(folder / "keys.db")}
    given = {"DEFAULT": {"SQL": "first", "LAW": "second"}, "BROKEN": {"BAD": "wrong"}}
    for name, adapters in given.items():
        own = f"LLM_GATEWAY__ENGINES__{name}"
        engines |= {f"{own}__PLUGIN": "hf", f"{own}__SETTINGS__MODEL": str(folder / "base")}
        engines |= {f"{own}__SETTINGS__{key}": value for key, value in (("DTYPE", "float32"), ("THREADS", "1"))}
        engines |= {f"{own}__SETTINGS__KERNELS": "off"}
        engines |= {f"{own}__SETTINGS__ADAPTERS__{key}": str(folder / file) for key, file in adapters.items()}
    with Service(**engines, ready=False) as running:
        running.keys = {
            "whole": keys.create("whole", scopes=frozenset({Scope.INFER, Scope.ADMIN, Scope.METRICS}))[1],
            "sql": keys.create("sql", models=frozenset({"sql"}))[1],
        }
        running.client.headers["authorization"] = f"Bearer {running.keys['whole']}"
        running.wait_for("/readyz", seconds=60)
        yield running


def body(model, **changes):
    return {"model": model, "prompt": TEXT, "temperature": 0, "max_tokens": 12, "ignore_eos": True} | changes


def test_the_list_names_what_each_model_is_made_of(house):
    models = {each["id"]: each for each in house.client.get("/v1/models").json()["data"]}
    assert {name: (each["parent"], each["root"]) for name, each in models.items()} == {
        "base": (None, "base"),
        "sql": ("base", "first"),
        "law": ("base", "second"),
    }
    assert models["sql"]["capabilities"] == models["base"]["capabilities"]
    assert house.client.get("/v1/models/law").json() == models["law"]


async def test_each_says_its_own_side_by_side_and_alone(house):
    headers = {"cache-control": "no-store"}
    alone = [house.client.post("/v1/completions", json=body(name), headers=headers).json() for name in MODELS]
    assert [each["model"] for each in alone] == list(MODELS)
    texts = [each["choices"][0]["text"] for each in alone]
    assert len(set(texts)) == 3
    async with httpx.AsyncClient(
        base_url=house.url, headers=dict(house.client.headers) | headers, timeout=60
    ) as client:
        asked = [client.post("/v1/completions", json=body(name)) for _ in range(4) for name in MODELS]
        together = [answer.json()["choices"][0]["text"] for answer in await asyncio.gather(*asked)]
    assert together == texts * 4


def test_an_answer_that_is_kept_is_that_of_one_model(house):
    seen = [house.client.post("/v1/completions", json=body(name, max_tokens=5)) for name in (*MODELS, *MODELS)]
    assert [answer.headers["x-cache"] for answer in seen] == ["miss"] * 3 + ["hit"] * 3
    texts = [answer.json()["choices"][0]["text"] for answer in seen]
    assert texts[:3] == texts[3:]
    assert len(set(texts)) == 3


def test_the_sdk_streams_from_an_adapter(house):
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=house.keys["whole"], max_retries=0) as client:
        stream = client.chat.completions.create(
            model="law", messages=[{"role": "user", "content": "Hello"}], stream=True, max_tokens=5, temperature=0
        )
        assert {chunk.model for chunk in stream} == {"law"}
        assert client.models.retrieve("law").parent == "base"


def test_a_key_may_be_for_an_adapter_alone(house):
    own = {"authorization": f"Bearer {house.keys['sql']}"}
    assert [each["id"] for each in house.client.get("/v1/models", headers=own).json()["data"]] == ["sql"]
    codes = [house.client.post("/v1/completions", json=body(name), headers=own).status_code for name in MODELS]
    assert codes == [404, 200, 404]


def test_they_have_one_queue_and_one_cache_in_the_metrics(house):
    house.client.post("/v1/completions", json=body("law"))
    told = house.scrape()
    for name in ("queue_depth", "kv_cache_size_tokens", "kv_cache_held_tokens"):
        lines = [line for line in told.splitlines() if line.startswith(f"llm_gateway_{name}{{")]
        assert [line.split('"')[1] for line in lines if "model=" in line] == ["base"]
    assert total(told, "llm_gateway_model_info", model="law") == 1


def test_an_adapter_that_is_refused_is_named_where_the_health_is_told(house):
    health = {each["engine"]: each for each in house.client.get("/v1/health").json()["engines"]}
    assert health["default"]["status"] == "ready"
    assert health["broken"]["status"] == "failed"
    assert health["broken"]["detail"] == (
        "the adapter 'bad' has use_dora = True in adapter_config.json, which is not supported"
    )
