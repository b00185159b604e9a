"""How an engine is: what it says when it is asked."""

from enum import StrEnum

from msgspec import Struct


class Health(StrEnum):
    """Where an engine is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    UNLOADED = "unloaded"


class Status(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an engine is: `detail` says why, in one line; `cache_used` is in tokens.

    `steps` counts pieces of work of any size, and rises while the engine gets on. An isolated engine hangs when it has
    work, and for `hang_seconds` neither answers nor changes `cache_used` or `steps`. `preemptions` counts how often
    an answer lost its room in the cache to another and was computed again; `None` where the engine does not say.

    `drift` is how far the model was at load from what it once said of its golden prompts: the mean absolute difference
    of the log probabilities of their tokens, in nats, or of vectors the cosine distance; `None` where nothing was
    compared.
    """

    health: Health
    detail: str = ""
    running: int = 0
    waiting: int = 0
    cache_used: int = 0
    steps: int = 0
    preemptions: int | None = None
    drift: float | None = None
