"""A model that scores pairs of texts, or classifies texts, as an engine."""

import functools
from collections.abc import Callable, Sequence

import torch

from gateway.engine import Capability, ScoreRequest, TextScores, Unsupported
from gateway_hf.embedding.encoder import TokenRow
from gateway_hf.embedding.opening import card_of, codec_of
from gateway_hf.embedding.pass_engine import PASS_TOKENS, OpenedModel, PassEngine
from gateway_hf.reader import size_of
from gateway_hf.scoring.load import LoadedScorer, load
from gateway_hf.settings import Settings


class ScoringEngine(PassEngine[LoadedScorer]):
    """Serves one model that scores; a pair has a score where the model has one number for it."""

    def _open(self, settings: Settings) -> OpenedModel[LoadedScorer]:
        loaded = load(settings)
        able = {Capability.CLASSIFY} if loaded.labels else set()
        if len(loaded.labels) <= 1:
            able.add(Capability.SCORE)

        def compute(rows: Sequence[TokenRow], on_pass: Callable[[], None]) -> list[bytes]:
            return [row.numpy().tobytes() for row in loaded.scorer.score(rows, PASS_TOKENS, on_pass)]

        card = card_of(loaded.opened, settings, frozenset(able))
        return OpenedModel(loaded, card, codec_of(loaded.opened), compute, loaded.opened.site.source.hold)

    async def score(self, request: ScoreRequest) -> TextScores:
        """Return the score of each pair, or a number for each label of each document."""
        running = self._ready()
        loaded = running.opened.loaded
        needed = Capability.SCORE if request.queries else Capability.CLASSIFY
        if needed not in running.opened.card.capabilities:
            raise Unsupported(f"{request.model} does not support {needed}", param=needed)
        size = sum(map(size_of, (*request.documents, *request.queries)))
        rows = await running.reader.read(functools.partial(loaded.reader.read, request), size)
        made = await running.batcher.compute(rows)
        if not request.raw:
            numbers = torch.frombuffer(bytearray(b"".join(made)), dtype=torch.float32).view(len(rows), -1)
            made = [row.numpy().tobytes() for row in (loaded.of_pair if request.queries else loaded.of_class)(numbers)]
        labels = () if request.queries else loaded.labels
        return TextScores(tuple(made), sum(len(row.ids) for row in rows), labels)
