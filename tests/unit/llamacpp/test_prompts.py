"""A special token is read in raw texts and in templates, and never in a message, however that is sent."""

import pytest

from gateway.engine import Chat, Completion, EngineError, InvalidRequest, Message, Text, Tokens, Tool, Unavailable
from gateway_llamacpp.gguf_header import GgufHeader
from gateway_llamacpp.prompts import PromptReader
from gateway_llamacpp.vocabulary import GgufVocabulary
from tests.support.gguf_file import gguf_bytes

SPELLED = "a <|end|> b"


class Child:
    """Renders a conversation as the texts of its messages, and says what it was asked."""

    def __init__(self, thinking="", refuses=None):
        self.asked = []
        self._refuses = refuses
        self._thinking = thinking

    async def ask(self, path, body, kind):
        self.asked.append((path, body))
        if path == "/tokenize":
            return kind(tokens=(2,))
        if self._refuses is not None and self._refuses[0] in body:
            raise self._refuses[1]("no")
        thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        texts = [message["content"] for message in body["messages"]]
        return kind(prompt="<|end|>".join(texts) + (self._thinking if thinks else ""))


@pytest.fixture
def reader(tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes())

    def reading(thinking="", refuses=None):
        child = Child(thinking, refuses)
        return PromptReader(child, GgufVocabulary(GgufHeader(path))), child

    return reading


def chat(*texts, **fields):
    return Chat(tuple(Message("user", (Text(text),)) for text in texts), **fields)


async def test_a_special_token_of_a_message_is_tokenized_in_two_parts(reader):
    prompts, child = reader()
    await prompts.encode(chat(SPELLED, "c"))
    parts = child.asked[-1][1]["content"]
    assert "".join(parts) == SPELLED + "<|end|>c"
    assert parts[0] == "a <"
    assert parts[1] == "|end|> b<|end|>c"


async def test_a_special_token_of_a_message_with_tools_is_broken_by_what_is_not_seen(reader):
    prompts, child = reader()
    asked = chat(SPELLED, tools=(Tool("f", SPELLED),))
    await prompts.encode(asked)
    assert child.asked[-1][1]["content"] == "a <\u2060|end|> b"
    words = prompts.words(asked)
    assert "<|end|>" not in str(words)
    assert words["tools"][0]["function"]["name"] == "f"


async def test_a_raw_text_is_read_as_it_is(reader):
    prompts, child = reader()
    await prompts.encode(Completion(SPELLED, add_special=False))
    assert child.asked == [("/tokenize", {"content": SPELLED, "add_special": False, "parse_special": True})]
    assert await prompts.encode(Tokens((1, 2))) == (1, 2)


async def test_what_the_template_writes_is_shown_as_it_is(reader):
    prompts, _ = reader()
    assert await prompts.render(chat(SPELLED, "c")) == SPELLED + "<|end|>c"


@pytest.mark.parametrize(
    ("thinking", "thinks", "may_choose"), [("", False, False), ("<think>", True, True), (" /think", True, True)]
)
async def test_whether_a_model_thinks_is_told_by_its_template(reader, thinking, thinks, may_choose):
    prompts, _ = reader(thinking)
    await prompts.try_thoughts()
    assert (prompts.thinks, prompts.may_think) == (thinks, may_choose)
    assert prompts.has_form(chat("a")) is thinks
    assert not prompts.has_form(chat("a", reasoning=False))


@pytest.mark.parametrize("error", [InvalidRequest, EngineError])
@pytest.mark.parametrize("param", ["messages", "tools"])
async def test_what_a_template_refuses_is_said_by_name(reader, param, error):
    prompts, _ = reader(refuses=(param, error))
    await prompts.try_thoughts()
    with pytest.raises(InvalidRequest) as refusal:
        await prompts.encode(chat("a", tools=(Tool("f"),)))
    assert refusal.value.param == param


async def test_a_child_that_is_away_is_no_refusal(reader):
    prompts, _ = reader(refuses=("messages", Unavailable))
    with pytest.raises(Unavailable):
        await prompts.encode(chat("a"))


@pytest.mark.parametrize("ids", [(), (8,), (-1,)])
async def test_ids_that_are_no_prompt_are_refused(reader, ids):
    prompts, _ = reader()
    with pytest.raises(InvalidRequest):
        await prompts.encode(Tokens(ids))
