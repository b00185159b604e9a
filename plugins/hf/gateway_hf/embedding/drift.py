"""Compare the vectors of a loaded model with those that it once made of the golden prompts."""

import json
import logging
import math

import torch

from gateway.engine import Completion, EmbedRequest, EngineError, LoadFailed
from gateway_hf.embedding.load import LoadedEncoder
from gateway_hf.golden.check import DriftGauge, hold_to, kept
from gateway_hf.golden.prompts import LONGEST, TEXTS, Golden, Logprobs
from gateway_hf.settings import Settings

_log = logging.getLogger("gateway_hf")

_PASS_TOKENS = 1_024
# By number format, many times what was measured (see DECISIONS): a larger model may lose more.
_BOUNDS = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.02}


def check_vectors(settings: Settings, loaded: LoadedEncoder, name: str, build: dict[str, str]) -> float | None:
    """Return how far a model's vectors are from its first ones, as a cosine distance; `None` where none are compared.

    Raises `LoadFailed` where that is above its bound, or where the vectors are no numbers.
    """
    if settings.max_drift == 0:
        return None
    texts = tuple(map(Completion, TEXTS))
    try:
        rows = loaded.reader.read(
            EmbedRequest(id="", model=name, inputs=texts, truncate=min(LONGEST, loaded.opened.window))
        )
    except EngineError as error:
        _log.warning("the model is not compared with what it said before: %s", error.message)
        return None
    vectors = loaded.encoder.encode(rows, _PASS_TOKENS).float()
    if not bool(vectors.isfinite().all()):
        raise LoadFailed("the model computes no numbers for its golden prompts; its files may be damaged")
    now = Golden(build, tuple(tuple(row.ids) for row in rows), tuple(map(tuple, vectors.tolist())))
    # What is read beside the weights makes other vectors rightly: those are compared with their own only.
    origin = {
        "golden vectors": build["weights"],
        "beside": build["tokenizer"],
        "recipe": loaded.encoder.digest(),
        "prompts": json.dumps(now.prompts),
    }
    return hold_to(settings, name, now, kept(settings, now, origin), _COSINE)


def _distance(golden: Golden, vectors: Logprobs) -> float:
    if [len(each) for each in golden.logprobs] != [len(each) for each in vectors]:
        return math.inf
    then, now = (torch.tensor(each, dtype=torch.float64) for each in (golden.logprobs, vectors))
    if torch.equal(then, now):
        return 0.0
    near = torch.nn.functional.cosine_similarity(then, now, dim=1)
    return max(0.0, float((1 - near).mean()))


_COSINE = DriftGauge("of cosine distance", _distance, _BOUNDS, _BOUNDS["bfloat16"])
