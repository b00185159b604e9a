"""A model that makes vectors of texts, as an engine; it scores a pair by how near its vectors are."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gateway.engine import Capability, Embeddings, EmbedRequest, ScoreRequest, TextScores, Unsupported
from gateway_hf.embedding.drift import check_vectors
from gateway_hf.embedding.encoder import TokenRow
from gateway_hf.embedding.load import LoadedEncoder, load
from gateway_hf.embedding.opening import card_of, codec_of
from gateway_hf.embedding.pass_engine import PASS_TOKENS, OpenedModel, PassEngine
from gateway_hf.embedding.similarity import SIMILARITIES
from gateway_hf.embedding.texts import named
from gateway_hf.reader import size_of
from gateway_hf.settings import Settings


class EmbeddingEngine(PassEngine[LoadedEncoder]):
    """Serves one model that makes vectors."""

    def _open(self, settings: Settings) -> OpenedModel[LoadedEncoder]:
        loaded = load(settings)
        compares = loaded.similarity in SIMILARITIES
        able = frozenset({Capability.EMBEDDING, *((Capability.SCORE,) if compares else ())})

        def compute(rows: Sequence[TokenRow], on_pass: Callable[[], None]) -> list[bytes]:
            vectors = loaded.encoder.encode(rows, PASS_TOKENS, on_pass)
            return [row.numpy().tobytes() for row in vectors]

        card = card_of(loaded.opened, settings, able)
        drift = check_vectors(settings, loaded, card.name, card.build)
        return OpenedModel(loaded, card, codec_of(loaded.opened), compute, loaded.opened.site.source.hold, drift)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Return a vector for each input."""
        running = self._ready()
        loaded = running.opened.loaded
        size = loaded.size
        if request.dimensions is not None and request.dimensions > size:
            raise Unsupported(f"a vector of {request.model} has {size} numbers", param="dimensions")
        job = functools.partial(loaded.reader.read, request)
        rows = await running.reader.read(job, sum(map(size_of, request.inputs)))
        vectors = await running.batcher.compute(rows)
        if request.dimensions is not None and request.dimensions < size:
            vectors = [loaded.encoder.shorten(vector, request.dimensions) for vector in vectors]
        return Embeddings(tuple(vectors), sum(len(row.ids) for row in rows))

    async def score(self, request: ScoreRequest) -> TextScores:
        """Return how near each document's vector is to that of its query; both are read in their roles."""
        running = self._ready()
        loaded = running.opened.loaded
        if not request.queries:
            raise Unsupported(f"{request.model} classifies no texts")

        def read() -> tuple[list[TokenRow], list[TokenRow]]:
            own = request.truncate_documents and request.truncate_documents + loaded.reader.special
            most = [each for each in (request.truncate, own) if each is not None]
            with named("query"):
                queries = loaded.reader.read(
                    EmbedRequest(id="", model=request.model, inputs=request.queries, role="query")
                )
            with named("documents"):
                documents = loaded.reader.read(
                    EmbedRequest(
                        id="",
                        model=request.model,
                        inputs=request.documents,
                        role="document",
                        truncate=min(most, default=None),
                    )
                )
            return queries, documents

        queries, documents = await running.reader.read(read, sum(map(size_of, (*request.queries, *request.documents))))
        rows = [*queries, *documents]
        vectors = _to_tensor(await running.batcher.compute(rows), loaded.size)
        near = SIMILARITIES[loaded.similarity](
            vectors[: len(queries)].expand(len(documents), -1), vectors[len(queries) :]
        )
        made = tuple(number.numpy().tobytes() for number in near)
        return TextScores(made, sum(len(row.ids) for row in rows))


def _to_tensor(vectors: Sequence[bytes], size: int) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(vectors)), dtype=torch.float32).view(-1, size)
