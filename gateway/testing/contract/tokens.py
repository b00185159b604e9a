"""The rules of an engine that shows its tokens."""

# ruff: noqa: PLR2004 - a test is full of its own numbers

import msgspec
from msgspec import structs

from gateway.engine import (
    Capability,
    Chat,
    Completion,
    Engine,
    GenerateRequest,
    InvalidRequest,
    Message,
    Started,
    Text,
    TokenDelta,
)
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

    async def test_the_ids_of_all_tokens_are_told(self, engine: Engine) -> None:
        """Kills: ids without that of the last token, or of other tokens than those that were read."""
        self.require(engine, Capability.TOKEN_IDS)
        request = self.request(engine, token_ids=True, max_tokens=9)
        first, deltas, last = await self.sentence(engine, request)
        read = first.prompt_ids or ()
        expect(
            len(read) == last.usage.prompt_tokens,
            f"{len(read)} ids are told of a prompt of {last.usage.prompt_tokens} tokens.",
            Started,
        )
        if Capability.TOKENIZE in self.card(engine).capabilities:
            known = await engine.tokenize(request.model, request.prompt)
            expect(
                read == tuple(known), f"The prompt's ids are {read!r:.80}, and {known!r:.80} by `tokenize`.", Started
            )
        for delta in deltas:
            told = len(delta.ids) if isinstance(delta, TokenDelta) else 0
            expect(told == delta.tokens, f"{told} ids are told of a delta of {delta.tokens} tokens.", TokenDelta)

    async def test_the_ids_are_those_of_the_answer(self, engine: Engine) -> None:
        """Kills: ids of other tokens than were drawn."""
        self.require(engine, Capability.TOKEN_IDS, Capability.LOGPROBS)
        answer = await self.answer(engine, None, token_ids=True, logprobs=0)
        scored = tuple(token.id for token in answer.logprobs)
        expect(answer.ids == scored, f"The ids {answer.ids!r:.80} are told, and {scored!r:.80} scored.", TokenDelta)

    async def test_ids_that_were_not_asked_for_are_not_told(self, engine: Engine) -> None:
        """Kills: a stream that is slower for ids that no client reads."""
        self.require(engine, Capability.TOKEN_IDS)
        first, deltas, _ = await self.sentence(engine, self.request(engine))
        told = [delta for delta in deltas if isinstance(delta, TokenDelta)]
        expect(first.prompt_ids is None and not told, "Ids are told, and were not asked for.", TokenDelta)

    async def test_a_tokenizer_says_of_what_class_it_is(self, engine: Engine) -> None:
        """Kills: a description that no other process can read."""
        self.require(engine, Capability.TOKENIZER_INFO)
        told = await engine.tokenizer_info(self.card(engine).name)
        name = told.get("tokenizer_class")
        expect(isinstance(name, str) and name, f"The tokenizer_class is {name!r:.80}.", Engine.tokenizer_info)
        read = msgspec.json.decode(msgspec.json.encode(told))
        expect(read == told, f"{told!r:.80} comes out of JSON as {read!r:.80}.", Engine.tokenizer_info)

    async def test_of_a_long_prompt_the_end_is_read(self, engine: Engine) -> None:
        """Kills: a prompt that is read whole though it was to be cut."""
        self.require(engine, Capability.TOKENIZE)
        _, _, last = await self.sentence(engine, structs.replace(self.request(engine), truncate=2))
        read = last.usage.prompt_tokens
        expect(read == 2, f"Of a prompt that is cut to 2 tokens {read} are read.", GenerateRequest)

    async def test_of_a_prompt_that_is_cut_at_its_end_the_beginning_is_read(self, engine: Engine) -> None:
        """Kills: a prompt that is always cut on the left."""
        self.require(engine, Capability.TRUNCATION_SIDE, Capability.TOKENIZE, Capability.TOKEN_IDS)
        request = self.request(engine, token_ids=True)
        ids = tuple(await engine.tokenize(request.model, request.prompt))
        first, _, _ = await self.sentence(engine, structs.replace(request, truncate=2, truncation_side="right"))
        expect(
            first.prompt_ids == ids[:2], f"Of the ids {ids!r:.80} {first.prompt_ids} are read first.", GenerateRequest
        )
