"""A stream is the whole answer in pieces, byte for byte, in every dialect, made anew and told again."""

import json

import pytest

pytestmark = pytest.mark.slow

TEXTS = {
    "emoji": "Grüße 🙂👩‍👩‍👧‍👦🇫🇷 and 👍🏽, again: 🙂",
    "cjk": "你好世界。今天天气很好。日本の首都は東京です。",
    "control": "tab\tline\r\nbell\x07 esc\x1b[0m nul\x00 bom\ufeff ls\u2028ps\u2029nel\x85 end",
    "plain": "Once upon a time there was a",
}
DRAWS = {"greedy": {"temperature": 0}, "seeded": {"temperature": 1.8, "seed": 11}}
SERVED = {"smollm2-135m-instruct": "builtin", "echo": "service"}
NEW = {"cache-control": "no-store"}


def asked(path, text, model, **draw):
    messages = [{"role": "user", "content": text}]
    bodies = {
        "/v1/generate": {"prompt": text, "max_new_tokens": 12, "return_full_text": False},
        "/v1/completions": {"prompt": text, "max_tokens": 12},
        "/v1/chat/completions": {"messages": messages, "max_tokens": 12},
        "/v1/messages": {"messages": messages, "max_tokens": 12},
    }
    # Anthropic's API has no seed, and its temperature ends at 1.
    if path == "/v1/messages":
        draw = {"temperature": 0}
    return bodies[path] | {"model": model} | draw


def text_of(path, answer):
    match path:
        case "/v1/generate":
            return answer["generated_text"]
        case "/v1/completions":
            return answer["choices"][0]["text"]
        case "/v1/chat/completions":
            return answer["choices"][0]["message"]["content"]
        case _:
            return "".join(block["text"] for block in answer["content"])


def pieces_of(path, frames):
    for frame in frames:
        match path:
            case "/v1/generate":
                yield frame.get("text", "")
            case "/v1/completions":
                yield frame["choices"][0]["text"]
            case "/v1/chat/completions":
                yield frame["choices"][0]["delta"].get("content") or ""
            case _:
                yield frame.get("delta", {}).get("text", "")


@pytest.fixture
def gateway(request, model):
    """The service that serves the model."""
    return request.getfixturevalue(SERVED[model])


def streamed(gateway, path, body, headers):
    """Read a stream; its lines end with a line feed and nothing else."""
    answer = gateway.client.post(path, json=body | {"stream": True}, headers=headers)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.content.decode().split("\n") if line.startswith("data: ")]
    frames = [json.loads(line) for line in lines if line != "[DONE]"]
    return "".join(pieces_of(path, frames))


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("model", SERVED)
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/completions", "/v1/chat/completions", "/v1/messages"])
def test_streaming_equals_whole(gateway, path, model, text, draw):
    body = asked(path, TEXTS[text], model, **DRAWS[draw])
    whole = gateway.client.post(path, json=body, headers=NEW)
    assert whole.status_code == 200, whole.text
    said = text_of(path, whole.json())
    assert streamed(gateway, path, body, NEW) == said
    kept = gateway.client.post(path, json=body)
    assert text_of(path, kept.json()) == said
    assert streamed(gateway, path, body, {}) == said
    if model == "echo":
        assert said == TEXTS[text]
