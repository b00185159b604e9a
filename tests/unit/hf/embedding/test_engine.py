"""Vectors are those of the model and of its recipe, whatever else is computed beside them."""

import asyncio
import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from gateway.engine import (
    Completion,
    ContextTooLong,
    EmbedRequest,
    GenerateRequest,
    InvalidRequest,
    LoadFailed,
    Tokens,
    Unavailable,
    Unsupported,
)
from gateway_hf import build
from gateway_hf.embedding.engine import EmbeddingEngine
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.support.tiny_encoders import ENCODERS, WINDOW, make_encoder

TEXTS = ("a fox", "The quick brown fox jumps over the lazy dog.", "one, two, three", "x", "你好 🙂", "")
POOLINGS = {
    "cls_token": lambda states: states[0],
    "mean_tokens": lambda states: states.mean(0),
    "max_tokens": lambda states: states.max(0).values,
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean_tokens": lambda states: torch.einsum("t,td->d", *weighed(states)),
    "lasttoken": lambda states: states[-1],
    "max_tokens+mean_tokens": lambda states: torch.cat([states.max(0).values, states.mean(0)]),
}


def weighed(states):
    weights = torch.arange(1, len(states) + 1).float()
    return weights / weights.sum(), states


def settings(folder, **more):
    return Settings(model=str(folder), dtype="float32", threads=1, **more)


def ask(*inputs, **more):
    given = tuple(Completion(one) if isinstance(one, str) else Tokens(one) for one in inputs)
    return EmbedRequest(id="r", model="m", inputs=given, **more)


def numbers(vector):
    return torch.tensor(struct.unpack(f"<{len(vector) // 4}f", vector))


def states_of(folder, text):
    """Compute the states of a text's tokens by the plainest way there is: one text, no padding."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        ids = AutoTokenizer.from_pretrained(folder).backend_tokenizer.encode(text).ids
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def reference(folder, text, pooling="mean_tokens", skipped=0):
    return torch.nn.functional.normalize(POOLINGS[pooling](states_of(folder, text)[skipped:]), dim=0)


async def check(folder, pooling):
    async with build(settings(folder)) as engine:
        made = await engine.embed(ask(*TEXTS))
        counts = [await engine.count_tokens("m", Completion(text)) for text in TEXTS]
    for text, vector in zip(TEXTS, made.vectors, strict=True):
        torch.testing.assert_close(numbers(vector), reference(folder, text, pooling), atol=1e-5, rtol=0)
    assert made.prompt_tokens == sum(counts)


@pytest.mark.parametrize("kind", ENCODERS)
async def test_every_kind_of_model_gives_its_own_vectors(tmp_path, kind):
    await check(make_encoder(kind, tmp_path), "mean_tokens")


@pytest.mark.parametrize("pooling", POOLINGS)
async def test_every_pooling_is_that_of_sentence_transformers(tmp_path, pooling):
    await check(make_encoder("bert", tmp_path, pooling), pooling)


async def test_a_bare_encoder_gets_the_mean_and_a_causal_model_the_last_token(tmp_path):
    await check(make_encoder("bert", tmp_path / "bare", None), "mean_tokens")
    folder = make_encoder("qwen3", tmp_path / "causal", None)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["Qwen3ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    async with build(settings(folder, task="embed")) as engine:
        made = await engine.embed(ask("a fox"))
    torch.testing.assert_close(numbers(made.vectors[0]), reference(folder, "a fox", "lasttoken"), atol=1e-5, rtol=0)


async def test_a_role_puts_its_prompt_before_each_text(tmp_path):
    prompts = {"query": "find: ", "passage": "read: "}
    folder = make_encoder("bert", tmp_path, prompts=prompts, default_prompt_name="passage")
    async with build(settings(folder)) as engine:
        for role, prompt in (("query", "find: "), ("document", "read: "), (None, "read: ")):
            made = await engine.embed(ask("a fox", role=role))
            expected = reference(folder, f"{prompt}a fox")
            torch.testing.assert_close(numbers(made.vectors[0]), expected, atol=1e-5, rtol=0)


async def test_a_prompt_may_be_left_out_of_the_vector(tmp_path):
    folder = make_encoder("bert", tmp_path, prompts={"query": "find: "}, include_prompt=False)
    tokens = len(AutoTokenizer.from_pretrained(folder).backend_tokenizer.encode("find: ").ids) - 1
    async with build(settings(folder)) as engine:
        made = await engine.embed(ask("a fox", role="query"))
    expected = reference(folder, "find: a fox", skipped=tokens)
    torch.testing.assert_close(numbers(made.vectors[0]), expected, atol=1e-5, rtol=0)


async def test_shorter_vectors_are_normalized_again(tmp_path):
    folder = make_encoder("bert", tmp_path)
    async with build(settings(folder)) as engine:
        made = await engine.embed(ask("a fox", "x", dimensions=8))
        expected = torch.nn.functional.normalize(reference(folder, "a fox")[:8], dim=0)
        torch.testing.assert_close(numbers(made.vectors[0]), expected, atol=1e-5, rtol=0)
        with pytest.raises(Unsupported, match="has 32 numbers") as refused:
            await engine.embed(ask("a fox", dimensions=33))
        assert refused.value.param == "dimensions"


async def test_a_long_text_is_refused_or_cut_as_asked(tmp_path):
    folder = make_encoder("roberta", tmp_path)
    long = "fox " * 400
    async with build(settings(folder)) as engine:
        assert engine.models()[0].context_window == WINDOW
        with pytest.raises(ContextTooLong, match="input 1 has more than the 64 tokens") as refused:
            await engine.embed(ask("x", long))
        assert refused.value.param == "input"
        assert (await engine.embed(ask(long, truncate=10))).prompt_tokens == 10
        for none_left in (1, 2):
            with pytest.raises(InvalidRequest, match="none is left for a text") as refused:
                await engine.embed(ask("a fox", truncate=none_left))
            assert refused.value.param == "truncate"
        assert (await engine.embed(ask("a fox", truncate=3))).prompt_tokens == 3
        cut = await engine.embed(ask(long, truncate=1_000))
        ids = AutoTokenizer.from_pretrained(folder).backend_tokenizer.encode(long).ids
        told = await engine.embed(ask((*ids[: WINDOW - 1], ids[-1])))  # the end is kept
        assert cut.prompt_tokens == WINDOW
        assert cut.vectors == told.vectors


async def test_tokens_are_read_as_they_are(tmp_path):
    async with build(settings(make_encoder("bert", tmp_path))) as engine:
        by_text, ids = await engine.embed(ask("a fox")), await engine.tokenize("m", Completion("a fox"))
        assert (await engine.embed(ask(ids))).vectors == by_text.vectors
        for wrong in ((), (1 << 20,), (-1,)):
            with pytest.raises(InvalidRequest, match="input 0") as refused:
                await engine.embed(ask(wrong))
            assert refused.value.param == "input"


async def test_many_requests_at_once_get_what_each_gets_alone(tmp_path):
    folder = make_encoder("mpnet", tmp_path)
    async with build(settings(folder)) as engine:
        alone = [(await engine.embed(ask(text))).vectors[0] for text in TEXTS]
        many = await asyncio.gather(*(engine.embed(ask(*TEXTS * (1 + number % 5))) for number in range(20)))
        for made in many:
            for at, vector in enumerate(made.vectors):
                torch.testing.assert_close(numbers(vector), numbers(alone[at % len(TEXTS)]), atol=1e-5, rtol=0)
        assert (await engine.status()).waiting == 0


async def test_a_model_that_makes_vectors_generates_nothing(tmp_path):
    engine = build(settings(make_encoder("bert", tmp_path)))
    with pytest.raises(Unavailable):
        await engine.embed(ask("x"))
    async with engine:
        with pytest.raises(Unsupported, match="generates none"):
            await anext(engine.generate(GenerateRequest(id="r", model="m", prompt=Completion("x"))))
    with pytest.raises(Unavailable):
        await engine.embed(ask("x"))


def test_what_a_model_is_for_is_seen_in_its_files(tmp_path):
    encoder = make_encoder("bert", tmp_path / "bare", None)
    assert isinstance(build(settings(encoder)), EmbeddingEngine)
    assert isinstance(build(settings(encoder, task="generate")), HfEngine)
    assert isinstance(build(Settings()), HfEngine)
    assert isinstance(build(Settings(model="org/model")), HfEngine)
    assert isinstance(build(Settings(model="org/model", task="embed")), EmbeddingEngine)
    assert isinstance(build(Settings(model="builtin-embedding")), EmbeddingEngine)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("modules.json", [], "does not begin with a Transformer"),
        ("modules.json", {"a": 1}, "not a list of JSON objects"),
        ("modules.json", [{"idx": 0, "path": "", "type": "x.Transformer"}], "has no Pooling"),
        (
            "modules.json",
            [{"idx": 0, "path": "", "type": "T.Transformer"}, {"idx": 1, "type": "a.Magic"}],
            "a step 'Magic'",
        ),
        ("modules.json", [{"idx": 0, "path": "../..", "type": "x.Transformer"}], "outside of the model's"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pools by 'median'"),
        ("config.json", {"model_type": "none"}, "is of a type"),
    ],
)
async def test_a_folder_that_cannot_be_followed_is_refused_in_one_line(tmp_path, file, change, reason):
    folder = make_encoder("bert", tmp_path)
    (folder / file).write_text(json.dumps(change))
    with pytest.raises(LoadFailed, match=reason) as refused:
        async with build(settings(folder, task="embed")):
            pass
    assert "\n" not in str(refused.value)


async def test_layers_behind_the_pooling_are_computed(tmp_path):
    folder = make_encoder("bert", tmp_path)
    layer = torch.nn.Linear(32, 12)
    dense = folder / "2_Dense"
    dense.mkdir()
    save_file({"linear.weight": layer.weight.data, "linear.bias": layer.bias.data}, dense / "model.safetensors")
    said = {"in_features": 32, "out_features": 12, "activation_function": "torch.nn.modules.activation.Tanh"}
    (dense / "config.json").write_text(json.dumps(said))
    steps = json.loads((folder / "modules.json").read_text())
    steps[2] = steps[2] | {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps(steps))
    async with build(settings(folder)) as engine:
        made = await engine.embed(ask("a fox"))
    with torch.inference_mode():
        pooled = states_of(folder, "a fox").mean(0)
        torch.testing.assert_close(numbers(made.vectors[0]), torch.tanh(layer(pooled)), atol=1e-5, rtol=0)
    (dense / "config.json").write_text(json.dumps(said | {"activation_function": "x.Softmax"}))
    with pytest.raises(LoadFailed, match="a layer with 'Softmax'"):
        async with build(settings(folder)):
            pass
    save_file({"linear.weight": torch.zeros(12, 31)}, dense / "model.safetensors")
    with pytest.raises(LoadFailed, match="takes 31 numbers"):
        async with build(settings(folder)):
            pass


async def test_a_model_of_small_letters_reads_small_letters(tmp_path):
    folder = make_encoder("bert", tmp_path)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": True}))
    async with build(settings(folder)) as engine:
        assert engine.models()[0].context_window == 20
        made = await engine.embed(ask("A FOX", "a fox"))
    assert made.vectors[0] == made.vectors[1]
