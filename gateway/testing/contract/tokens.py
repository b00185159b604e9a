"""The rules of an engine that shows its tokens."""

# ruff: noqa: PLR2004 - a test is full of its own numbers

from msgspec import structs

from gateway.engine import Capability, Chat, Completion, Engine, GenerateRequest, InvalidRequest, Message, Text
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect, expect_refusal


class TokenRules(Subject):
    """Tokens are what the model reads, and together they are the text."""

    async def test_tokens_are_what_is_counted(self, engine: Engine) -> None:
        """Kills: tokens without those that the tokenizer or the template adds."""
        self.require(engine, Capability.TOKENIZE, Capability.TOKEN_COUNT)
        name = self.card(engine).name
        prompts = [self.prompt(engine, self.text)]
        if Capability.CHAT in self.card(engine).capabilities:
            prompts.append(Chat((Message("user", (Text(self.text),)),)))
        for prompt in prompts:
            ids = await engine.tokenize(name, prompt)
            counted = await engine.count_tokens(name, prompt)
            expect(
                len(ids) == counted > 0,
                f"`tokenize` finds {len(ids)} tokens where `count_tokens` finds {counted}.",
                Engine.tokenize,
            )

    async def test_the_pieces_of_a_text_are_the_text(self, engine: Engine) -> None:
        """Kills: pieces that lose the spaces between them."""
        self.require(engine, Capability.TOKENIZE)
        name = self.card(engine).name
        ids = await engine.tokenize(name, Completion(self.text, add_special=False))
        pieces = await engine.detokenize(name, ids)
        expect(len(pieces) == len(ids), f"{len(ids)} tokens have {len(pieces)} pieces of text.", Engine.detokenize)
        joined = "".join(pieces)
        expect(joined == self.text, f"The pieces together are {joined!r}, not {self.text!r}.", Engine.detokenize)

    async def test_the_bytes_of_a_texts_tokens_are_the_text(self, engine: Engine) -> None:
        """Kills: a spelling that stands for other bytes than the text has, or for the same ones twice."""
        self.require(engine, Capability.TOKENIZE)
        name = self.card(engine).name
        ids = await engine.tokenize(name, Completion(self.text, add_special=False))
        spelled = await engine.spell(name, ids)
        expect(len(spelled) == len(ids), f"{len(ids)} tokens have {len(spelled)} spellings.", Engine.spell)
        joined = b"".join(spelling.data for spelling in spelled)
        expect(joined == self.text.encode(), f"The bytes together are {joined!r}, not those of the text.", Engine.spell)

    async def test_no_tokens_are_no_text(self, engine: Engine) -> None:
        """Kills: a first piece where there is none."""
        self.require(engine, Capability.TOKENIZE)
        pieces = await engine.detokenize(self.card(engine).name, ())
        expect(pieces == (), f"No tokens have the pieces {pieces!r}.", Engine.detokenize)

    async def test_a_token_that_there_is_not_is_refused(self, engine: Engine) -> None:
        """Kills: a look into a table of which the end is not known."""
        self.require(engine, Capability.TOKENIZE)
        asked = engine.detokenize(self.card(engine).name, (2**31,))
        await expect_refusal(asked, InvalidRequest, f"There is no token {2**31}.")

    async def test_of_a_long_prompt_the_end_is_read(self, engine: Engine) -> None:
        """Kills: a prompt that is read whole though it was to be cut."""
        self.require(engine, Capability.TOKENIZE)
        _, _, last = await self.sentence(engine, structs.replace(self.request(engine), truncate=2))
        read = last.usage.prompt_tokens
        expect(read == 2, f"Of a prompt that is cut to 2 tokens {read} are read.", GenerateRequest)
