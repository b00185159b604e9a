"""The library sentence-transformers, asked over its standard input: one JSON object a line, one line for its answer.

It runs in an environment of its own and imports nothing of this repository. What the library prints goes to stderr.
"""

import base64
import json
import os
import sys
import time

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, __version__

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


class Peer:
    """The models of two folders, and what they make of texts."""

    def __init__(self, vectors: str, pairs: str, texts: list[str], query: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._texts = texts
        self._query = query
        self._models = {
            name: SentenceTransformer(vectors, device="cpu", model_kwargs={"dtype": dtype})
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        }
        self._pairs = CrossEncoder(pairs, device="cpu")

    def version(self) -> str:
        return f"sentence-transformers {__version__}, torch {torch.__version__}"

    def vectors(self) -> list[str]:
        made = self._models["float32"].encode(self._texts, batch_size=32, show_progress_bar=False)
        return [base64.b64encode(vector.astype("float32").tobytes()).decode() for vector in made]

    def scores(self) -> list[float]:
        made = self._pairs.predict([(self._query, text) for text in self._texts], show_progress_bar=False)
        return [float(score) for score in made]

    def seconds(self, dtype: str, batch: int) -> float:
        began = time.perf_counter()
        self._models[dtype].encode(self._texts, batch_size=batch, show_progress_bar=False)
        return time.perf_counter() - began


def main() -> None:
    peer = Peer(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(getattr(peer, asked.pop("do"))(**asked)), file=_answers)


main()
