"""Rules about scores of pairs, and classes of texts."""

import asyncio
import math
import struct

import pytest

from gateway.engine import (
    Capability,
    Completion,
    ContextTooLong,
    Engine,
    ModelCard,
    ScoreRequest,
    TextScores,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import broken, expect

_NUMBER = 4
_NEAR = 1e-2
_OTHER = "another text, which is not like it"


class PairRules(Subject):
    """A model whose card lists `score` scores pairs; one whose card lists `classify` classifies texts."""

    async def test_each_document_has_its_score(self, engine: Engine) -> None:
        """Kills: scores of another number or order, or more numbers than one."""
        made = await self._score(engine, self.text, _OTHER, self.text)
        expect(len(made.rows) == len("123"), f"Three documents have {len(made.rows)} scores.", TextScores)
        expect({len(row) for row in made.rows} == {_NUMBER}, "The score of a pair is one float32.", TextScores)
        first, other, again = map(_number, made.rows)
        expect(abs(first - again) < _NEAR, "One document has two scores.", TextScores)
        expect(first != other, "Two documents have one score: are they in the order of the documents?", TextScores)
        expect(made.prompt_tokens > 0, f"The pairs have {made.prompt_tokens} tokens.", TextScores)
        expect(not made.labels, "A pair has a score, and no labels.", TextScores)

    async def test_one_query_for_all_is_the_same_for_each(self, engine: Engine) -> None:
        """Kills: queries that are not looked at, or that go with another's document."""
        queries = (self.text, _OTHER, self.text)
        documents = (_OTHER, self.text, _OTHER)
        each = await self._score(engine, *documents, queries=queries)
        for query, document, row in zip(queries, documents, each.rows, strict=True):
            (alone,) = (await self._score(engine, document, queries=(query,))).rows
            near = abs(_number(alone) - _number(row)) < _NEAR
            expect(near, "A pair has another score where each document has its own query.", ScoreRequest)

    async def test_a_score_is_the_same_alone_and_beside_others(self, engine: Engine) -> None:
        """Kills: pairs of several requests that are mixed up, or padding that is read."""
        texts = [f"{_OTHER} {number} " * (1 + number % 3) for number in range(6)]
        most = self._able(engine, Capability.SCORE).context_window
        alone = [_number((await self._score(engine, text, truncate=most)).rows[0]) for text in texts]
        turns = [[*texts[at:], *texts[:at]] for at in range(len(texts))]
        together = await asyncio.gather(*(self._score(engine, *turn, truncate=most) for turn in turns))
        for at, made in enumerate(together):
            turned = [*alone[at:], *alone[:at]]
            same = all(abs(_number(row) - other) < _NEAR for row, other in zip(made.rows, turned, strict=True))
            expect(same, "A pair has another score where others are asked for at the same time.", TextScores)

    async def test_raw_scores_are_in_the_same_order(self, engine: Engine) -> None:
        """Kills: a function behind the scores that puts a worse document first."""
        texts = [self.text, _OTHER, f"{self.text} {_OTHER}"]
        made, raw = await self._score(engine, *texts), await self._score(engine, *texts, raw=True)
        places = range(len(texts))
        best = [sorted(places, key=list(map(_number, each.rows)).__getitem__) for each in (made, raw)]
        expect(best[0] == best[1], f"The order of scores is {best[0]}, and of raw ones {best[1]}.", ScoreRequest)

    async def test_a_long_document_is_refused_or_cut(self, engine: Engine) -> None:
        """Kills: a document that is cut without being asked, or read whole where it is to be cut."""
        window = self._able(engine, Capability.SCORE).context_window
        long = f"{self.text} " * window
        try:
            await self._score(engine, long)
        except ContextTooLong:
            pass
        else:
            broken("A pair that is longer than the context is read all the same.", Engine.score)
        cut = (await self._score(engine, long, truncate=window)).prompt_tokens
        # A model that reads both apart reads the query beside.
        expect(0 < cut <= 2 * window, f"{window} tokens are to be read, and {cut} were.", ScoreRequest)
        short = (await self._score(engine, long, truncate=window, truncate_documents=2)).prompt_tokens
        whole = (await self._score(engine, self.text, truncate=window)).prompt_tokens
        expect(0 < short < whole, f"Two tokens of a document are to be read; with its query {short}.", ScoreRequest)

    async def test_a_text_has_a_number_for_each_label(self, engine: Engine) -> None:
        """Kills: classes without labels, of another number or order, or that are no numbers."""
        model = self._able(engine, Capability.CLASSIFY)
        texts = (Completion(self.text), Completion(_OTHER), Completion(self.text))
        made = await engine.score(ScoreRequest(id="contract-classify", model=model.name, documents=texts, timeout=60))
        expect(len(made.rows) == len(texts), f"Three texts have {len(made.rows)} rows.", TextScores)
        expect(made.labels, "Texts are classified, and no labels are told.", TextScores)
        sizes = {len(row) for row in made.rows}
        expect(sizes == {_NUMBER * len(made.labels)}, f"Rows have {sizes} bytes, labels {made.labels}.", TextScores)
        first, other, again = (struct.unpack(f"<{len(made.labels)}f", row) for row in made.rows)
        expect(all(map(math.isfinite, (*first, *other))), f"A class has no number: {first}, {other}.", TextScores)
        expect(all(abs(a - b) < _NEAR for a, b in zip(first, again, strict=True)), "One text has two rows.", TextScores)
        expect(first != other, "Two texts have one row: are they in the order of the texts?", TextScores)

    async def _score(
        self, engine: Engine, *documents: str, queries: tuple[str, ...] = (), raw: bool = False, **cut: int
    ) -> TextScores:
        request = ScoreRequest(
            id="contract-score",
            model=self._able(engine, Capability.SCORE).name,
            documents=tuple(map(Completion, documents)),
            queries=tuple(map(Completion, queries or (self.text,))),
            raw=raw,
            truncate=cut.get("truncate"),
            truncate_documents=cut.get("truncate_documents"),
            timeout=60,
        )
        return await engine.score(request)

    def _able(self, engine: Engine, capability: Capability) -> ModelCard:
        cards = [card for card in self.cards(engine) if capability in card.capabilities]
        if not cards:
            pytest.skip(f"no card lists {capability}")
        return cards[0]


def _number(row: bytes) -> float:
    (number,) = struct.unpack("<f", row[:_NUMBER])
    return float(number)
