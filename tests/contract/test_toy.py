"""An engine with every capability that the interface has, and the contract that it keeps."""

import asyncio
import codecs
import itertools
import re
from contextlib import asynccontextmanager
from struct import pack

import pytest
from msgspec import structs

import gateway.engine as api
from gateway.testing.contract import EngineContract

CARD = api.ModelCard(name="toy", context_window=4096, capabilities=frozenset(api.Capability), places=4, vocabulary=256)
CONSTRAINED = {api.Regex: "42", api.JsonObject: "{}", api.JsonSchema: '{"city": "Rome"}', api.Grammar: "yes"}
BROKEN = re.compile("nonsense|nowhere|[(]unclosed|options=[(][)]")


class Toy(api.Engine):  # says a prompt again; a token is a byte
    def __init__(self):
        self.places = asyncio.Semaphore(CARD.places)
        self.asked = 0  # requests that do not stand by

    def models(self):
        return [CARD]

    async def generate(self, request):
        kept = request.truncate and (
            slice(request.truncate) if request.truncation_side == "right" else slice(-request.truncate, None)
        )
        prompt, asked = _read(request.prompt)[kept or slice(None)], request.sampling
        limit = api.answer_limit(asked, len(prompt), CARD.under(request.defaults))
        if asked.allowed_token_ids == ():
            raise api.InvalidRequest("no token may be drawn")
        if BROKEN.search(str(request.constraint)):
            raise api.InvalidRequest("nothing is like that", param=request.constraint.__struct_config__.tag)
        async with self.place(request):
            chat = request.prompt if isinstance(request.prompt, api.Chat) else api.Chat(())
            read = tuple(prompt) if asked.token_ids else None
            yield api.Started(len(prompt), prompt_logprobs=_scores(prompt, asked.prompt_logprobs), prompt_ids=read)
            thought = int(bool(chat.reasoning))
            if thought:
                yield api.Delta("", reasoning="Let me see.")
            if chat.tools and chat.tool_choice != "none":
                names = [tool.name for tool in chat.tools]
                named = {chat.tool_choice} & set(names) or chat.allowed_tools or names
                yield api.ToolDelta(0, '{"city": ', "call-1", next(n for n in names if n in named), tokens=1)
                yield api.ToolDelta(0, '"Paris"}')
                yield api.Finished(api.FinishReason.TOOL_CALLS, api.Usage(len(prompt), 1))
                return
            said, least = _held(request.constraint, prompt), asked.min_tokens or 0
            shown = bool(asked.include_stop_str_in_output)
            stops, pieces, told, stop = api.StopStrings(asked.stop or (), shown=shown), _Pieces(), 0, None
            speech = _drawn(itertools.cycle(said) if _goes_on(request, said, least) else said, asked)
            for told, token in enumerate(itertools.islice(speech, limit - thought), 1):
                await asyncio.sleep(0.01)
                text = stops.feed(pieces(token)) if told > least else pieces(token)
                logprobs = () if asked.logprobs is None else (_token(token, asked.logprobs),)
                ids = {"ids": (token,)} if asked.token_ids else {}
                yield (api.TokenDelta if ids else api.Delta)(text, logprobs=logprobs, **ids)
                stop = stops.found or (token if told > least and token in (asked.stop_token_ids or ()) else None)
                if stop is not None:
                    break
            yield api.Delta(stops.flush(), tokens=0)
            told += thought
            reason = "STOP" if stop is not None or told < limit else "LENGTH"
            yield api.Finished(api.FinishReason[reason], api.Usage(len(prompt), told, 0, thought), stop)

    @asynccontextmanager
    async def place(self, request):
        if request.standby is not None:
            while self.asked:  # noqa: ASYNC110 - whatever asks tells nothing of it
                await asyncio.sleep(0.01)
            yield
            return
        self.asked += 1
        try:
            async with self.places:
                yield
        finally:
            self.asked -= 1

    async def explain(self, request):
        return structs.replace(await super().explain(request), cached_tokens=0)

    async def count_tokens(self, model, prompt):
        return len(_read(prompt))

    async def tokenize(self, model, prompt):
        return tuple(_read(prompt))

    async def detokenize(self, model, ids):
        if not all(token in range(256) for token in ids):
            raise api.InvalidRequest("a token is a byte")
        return tuple(map(_Pieces(), ids))

    async def tokenizer_info(self, model):
        return {"tokenizer_class": "Bytes", "model_max_length": 1e30}

    async def spell(self, model, ids):
        return tuple(api.TokenSpelling(f"<{token}>", bytes([token])) for token in ids)

    async def embed(self, request):
        texts = [one.text.encode()[: request.truncate] for one in request.inputs]
        if any(len(text) > CARD.context_window for text in texts):
            raise api.ContextTooLong("too long")
        if (size := request.dimensions or 2) > 2:
            raise api.Unsupported("two numbers", param="dimensions")
        vectors = (pack("<2f", len(text), sum(text)) for text in texts)
        return api.Embeddings(tuple(vector[: 4 * size] for vector in vectors), len(b"".join(texts)))

    async def score(self, request):
        queries = [query.text.encode() for query in request.queries] or [b""]
        most, rows, told = request.truncate or CARD.context_window, [], 0
        for query, one in zip(itertools.cycle(queries), request.documents, strict=False):
            text = one.text.encode()[: request.truncate_documents]
            if len(query + text) > most and not request.truncate:
                raise api.ContextTooLong("too long")
            text = text[: most - len(query)]
            told += len(query + text)
            share = sum(letter in query for letter in text) / (len(text) or 1)
            rows.append(
                pack("<f", share * 2 if request.raw else share) if request.queries else pack("<2f", 1, len(text))
            )
        return api.TextScores(tuple(rows), told, () if request.queries else ("a", "b"))


def _held(constraint, prompt):
    if isinstance(constraint, api.Choice):
        return constraint.options[0].encode()
    return CONSTRAINED.get(type(constraint), "").encode() or prompt


def _goes_on(request, said, least):
    return request.constraint is None and (request.sampling.ignore_eos or len(said) < least)


class _Pieces(codecs.getincrementaldecoder("utf-8")):
    def __call__(self, token):
        return self.decode(bytes([token]))


def _read(prompt):
    if not isinstance(prompt, api.Chat):
        return bytes(prompt.ids) if isinstance(prompt, api.Tokens) else prompt.text.encode()
    parts = [part for message in prompt.messages for part in message.parts]
    return "".join(getattr(part, "text", getattr(part, "arguments", "[image]")) for part in parts).encode()


def _drawn(speech, asked):
    allowed, words, drawn = asked.allowed_token_ids, [word.encode() for word in asked.bad_words or ()], b""
    for token in (bytes([token]) for token in speech):
        if (allowed is None or token[0] in allowed) and not any((drawn + token).endswith(word) for word in words):
            drawn += token
            yield token[0]


def _token(token, ranks, text=""):
    return api.TokenLogprob(token, text, -0.5, (api.TokenLogprob(token, text, -0.5),) * ranks, bytes([token]))


def _scores(prompt, ranks):
    scored = [_token(token, ranks or 0, text) for token, text in zip(prompt, map(_Pieces(), prompt), strict=True)]
    return None if ranks is None else (api.TokenLogprob(prompt[0], scored[0].text, 0.0), *scored[1:])


class TestToy(EngineContract):
    make_engine = pytest.fixture(lambda _: Toy)

    def prompt_for(self, answer):
        return api.Completion(answer)

    async def test_thoughts_are_told_apart(self, engine):
        said = (api.Message("user", (api.Text("hi"),)),)
        answer = await self.answer(engine, api.Chat(said, reasoning=True), max_tokens=3)
        assert (answer.reasoning, answer.text) == ("Let me see.", "hi")
