"""Every question at its largest: readers, templates, scores, lists of a million."""

import json
from collections.abc import Callable, Iterator

from tests.attack.table import attack
from tests.attack.target import Target
from tests.attack.transport import typed
from tests.chaos.row import Row, none_of
from tests.support.observe import eventually
from tests.support.processes import engines

_MOST = 4 * 1024 * 1024 - 65_536


def _keep_asking(target: Target, ask: Callable[[int], object], at_once: int = 4) -> Iterator[Row]:
    """Ask until the time is over; say what was rude, and whether an engine was replaced."""
    before, answers = engines(target.main), []
    while target.goes_on:
        answers += target.many(at_once, ask, at_once)
    yield typed(answers)
    yield none_of("engines that died", len(set(before) - set(engines(target.main))), len(before))


@attack(seconds=6.0)
def detokenize_lead_bytes(target: Target) -> Iterator[Row]:
    """Decode one lead byte twenty thousand times: an incomplete text that grows."""
    lone = target.post("/tokenize", {"model": "tiny", "prompt": "é"}).json()["tokens"][-2:]
    bodies = [{"model": "tiny", "tokens": [token] * 20_000} for token in lone]
    yield from _keep_asking(target, lambda number: target.post("/detokenize", bodies[number % len(bodies)]))


@attack(seconds=6.0)
def spaces_to_truncate(target: Target) -> Iterator[Row]:
    """Have almost four megabytes of spaces read to keep one token."""
    body = {"model": "tiny", "prompt": " " * _MOST, "truncate_prompt_tokens": 1, "max_tokens": 1}
    content = json.dumps(body).encode()
    yield from _keep_asking(target, lambda _: target.post("/v1/completions", content))


@attack(seconds=6.0)
def largest_tokenize(target: Target) -> Iterator[Row]:
    """Tokenize texts of the largest size: one word, spaces, incomplete characters, all different."""
    texts = ["a" * _MOST, " " * _MOST, "ﷺ" * (_MOST // 6), "".join(map(chr, range(0x100, 0x2000))) * 60]
    contents = [json.dumps({"model": "tiny", "prompt": text}, ensure_ascii=False).encode()[: 2**22] for text in texts]
    yield from _keep_asking(target, lambda number: target.post("/tokenize", contents[number % len(contents)]))


@attack(seconds=6.0)
def largest_conversations(target: Target) -> Iterator[Row]:
    """Render, count and answer conversations of two thousand messages."""
    messages = [{"role": ("user", "assistant")[number % 2], "content": "<|im_end|> x " * 60} for number in range(2_047)]
    content = json.dumps({"model": "tiny", "messages": messages, "max_tokens": 1}).encode()
    paths = ("/apply-template", "/tokenize", "/v1/messages/count_tokens", "/v1/chat/completions")
    yield from _keep_asking(target, lambda number: target.post(paths[number % len(paths)], content))


@attack(seconds=6.0)
def many_small_things(target: Target) -> Iterator[Row]:
    """Send bodies of some hundred kilobytes that are nothing but objects and numbers, many at once, in all dialects."""
    part, text = {"type": "text", "text": "x"}, {"type": "input_text", "text": "x"}
    schema = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(110)}}
    tools = [{"type": "function", "function": {"name": f"f{number}", "parameters": schema}} for number in range(100)]
    parts: dict[str, object] = {"messages": [{"role": "user", "content": [part] * 5}] * 2_000}
    called: dict[str, object] = {"messages": [{"role": "user", "content": "x"}], "tools": tools}
    asked = [("/v1/chat/completions", parts), ("/v1/chat/completions", called), ("/apply-template", called)]
    asked += [("/v1/messages", parts), ("/v1/messages/count_tokens", parts)]
    asked += [("/v1/responses", {"input": [{"role": "user", "content": [text] * 5}] * 2_000, "max_output_tokens": 16})]
    asked += [(path, {"prompt": [1] * 120_000}) for path in ("/v1/completions", "/tokenize")]
    sent = [(path, json.dumps({"model": "tiny"} | body).encode()) for path, body in asked]
    yield from _keep_asking(target, lambda number: target.post(*sent[number % len(sent)]), 2 * len(sent))


@attack(seconds=8.0)
def scored_prompts(target: Target) -> Iterator[Row]:
    """Score 128 prompts with twenty alternatives for each token."""
    body = {"model": "tiny", "prompt": ["the quick brown fox " * 20] * 128, "max_tokens": 1, "prompt_logprobs": 20}
    yield from _keep_asking(target, lambda _: target.post("/v1/completions", body), 2)


@attack(seconds=6.0)
def scored_scripts(target: Target) -> Iterator[Row]:
    """Score prompts on an engine that takes no time for it, so that all the work is the worker's."""
    body = {"model": "scripted", "prompt": ["a b c d " * 400] * 128, "max_tokens": 1, "prompt_logprobs": 20}
    yield from _keep_asking(target, lambda _: target.post("/v1/completions", body), 2)


@attack(seconds=6.0)
def echoed_scores(target: Target) -> Iterator[Row]:
    """Have incomplete characters told with their alternatives."""
    body = {"model": "tiny", "prompt": "\u00e9\u4f60" * 60, "echo": True, "logprobs": 5, "max_tokens": 16}
    yield from _keep_asking(target, lambda _: target.post("/v1/completions", body))


def hostile_bodies() -> dict[str, bytes]:
    """Write bodies whose decoding takes long: lists, maps and numbers of the largest size."""
    million = ",".join(['"a"'] * 1_000_000)
    numbers = ",".join(["1"] * 2_000_000)
    biases = ",".join(f'"{number}":1' for number in range(400_000))
    fields = ",".join(f'"f{number}":0' for number in range(300_000))
    messages = ",".join(['{"role":"user","content":"a"}'] * 140_000)
    bodies = {
        "stop": f'{{"prompt":"a","stop":[{million}]}}',
        "prompt": f'{{"prompt":[{numbers}]}}',
        "texts": f'{{"prompt":[{million}]}}',
        "logit_bias": f'{{"prompt":"a","logit_bias":{{{biases}}}}}',
        "unknown": f'{{"prompt":"a",{fields}}}',
        "unknown list": f'{{"prompt":"a","more":[{numbers}]}}',
        "messages": f'{{"messages":[{messages}]}}',
        "deep": '{"prompt":' + "[" * 2_000_000 + "]" * 2_000_000 + "}",
    }
    return {name: body.encode() for name, body in bodies.items()}


@attack(seconds=8.0)
def million_items(target: Target) -> Iterator[Row]:
    """Send lists and maps of a million to every dialect."""
    bodies = list(hostile_bodies().values())
    paths = ("/v1/generate", "/v1/completions", "/v1/chat/completions", "/v1/messages", "/tokenize", "/detokenize")
    asked = [(path, body) for body in bodies for path in paths]
    target.chance.shuffle(asked)
    yield from _keep_asking(target, lambda number: target.post(*asked[number % len(asked)]), len(asked))


_VECTORS = {
    "LLM_GATEWAY__ENGINES__VECTORS__PLUGIN": "hf",
    "LLM_GATEWAY__ENGINES__VECTORS__SETTINGS__MODEL": "builtin-embedding",
    "LLM_GATEWAY__ENGINES__VECTORS__SETTINGS__THREADS": "1",
}


@attack(seconds=12.0, **_VECTORS)
def texts_to_judge(target: Target) -> Iterator[Row]:
    """Embed and rerank thousands of texts, texts of megabytes, lists of a million, and numbers that are no tokens."""
    asked = {"model": "all-minilm-l6-v2"}
    eventually(lambda: target.post("/v1/embeddings", asked | {"input": "a"}).status_code == 200, 120)
    long, many = "fox " * (_MOST // 4), ["a b c"] * 2_048
    million = ["a"] * 1_000_000
    bodies: list[tuple[str, dict[str, object]]] = [
        ("/v1/embeddings", {"input": many, "encoding_format": "base64"}),
        ("/v1/embeddings", {"input": long}),
        ("/v1/embeddings", {"input": long, "truncate_prompt_tokens": 1}),
        ("/v1/embeddings", {"input": million}),
        ("/v1/embeddings", {"input": [[1 << 31] * 500] * 500}),
        ("/v1/rerank", {"query": "a", "documents": many}),
        ("/v2/rerank", {"query": "a", "documents": [long]}),
        ("/v1/rerank", {"query": long, "documents": ["a"]}),
        ("/v1/score", {"text_1": ["a"] * 2_048, "text_2": many}),
        ("/v1/score", {"text_1": "a", "text_2": million}),
        ("/v1/classify", {"input": million}),
    ]
    sent = [(path, json.dumps(asked | body).encode()) for path, body in bodies]
    yield from _keep_asking(target, lambda number: target.post(*sent[number % len(sent)]), len(sent))
