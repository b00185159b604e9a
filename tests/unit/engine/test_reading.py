"""What an engine that only answers questions about tokens says of a request."""

import pytest

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    ContextTooLong,
    Engine,
    GenerateRequest,
    Message,
    ModelCard,
    PromptReading,
    Sampling,
    Text,
    Unsupported,
)

ABLE = frozenset({Capability.COMPLETION, Capability.CHAT})


class Letters(Engine):
    """A token is a letter; it shows no template."""

    def __init__(self, *more):
        self.card = ModelCard(name="m", context_window=10, capabilities=ABLE | set(more))

    def models(self):
        return [self.card]

    def generate(self, request):
        raise NotImplementedError

    async def count_tokens(self, model, prompt):
        return len(prompt.text)

    async def tokenize(self, model, prompt):
        text = prompt.text if isinstance(prompt, Completion) else prompt.messages[0].parts[0].text
        return tuple(text.encode())


def asked(text="abc", **more):
    return GenerateRequest(id="1", model="m", prompt=Completion(text), **more)


async def test_it_says_what_the_card_lists_and_no_more():
    assert await Letters().explain(asked()) == PromptReading(text="abc")
    counted = await Letters(Capability.TOKEN_COUNT).explain(asked())
    assert counted == PromptReading(prompt_tokens=3, text="abc", max_tokens=7)
    shown = await Letters(Capability.TOKENIZE).explain(asked(sampling=Sampling(max_tokens=2)))
    assert shown == PromptReading(3, (97, 98, 99), "abc", None, 2)


@pytest.mark.parametrize(("side", "ids"), [("left", (98, 99)), ("right", (97, 98))])
async def test_a_prompt_is_cut_as_it_would_be(side, ids):
    told = await Letters(Capability.TOKENIZE).explain(asked(truncate=2, truncation_side=side))
    assert (told.ids, told.prompt_tokens) == (ids, 2)
    assert (await Letters(Capability.TOKEN_COUNT).explain(asked(truncate=2))).prompt_tokens == 2


async def test_a_template_that_is_not_shown_leaves_the_text_unknown():
    engine = Letters(Capability.TOKENIZE)
    chat = Chat((Message("user", (Text("ab"),)),))
    told = await engine.explain(GenerateRequest(id="1", model="m", prompt=chat))
    assert (told.text, told.ids) == (None, (97, 98))
    with pytest.raises(Unsupported):
        await engine.render("m", chat)


async def test_a_prompt_without_room_for_an_answer_is_refused():
    with pytest.raises(ContextTooLong):
        await Letters(Capability.TOKEN_COUNT).explain(asked("abcdefghij"))
