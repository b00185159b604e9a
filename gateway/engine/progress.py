"""Steps of loading, as records of the log, with their progress and the seconds they took.

A record of a step names it in `step` and says how far it is in `progress`: 0 at its beginning, 1 at its end. The
gateway shows a bar on a terminal and a few plain lines elsewhere; `loading_step` writes such records.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_INTERVAL = 0.2
# A step that is nearly done has not ended.
_NEARLY = 0.999


@contextmanager
def loading_step(log: logging.Logger, what: str, note: str = "") -> Iterator[Callable[[float], None]]:
    """Log a step of loading while the block runs; call what it yields with the progress, from 0 to 1.

    `note` says at the beginning how often the step is needed and how long it takes, as in `once, about 20 s`.
    """
    begun = told = time.monotonic()
    share = 0.0

    def tell(progress: float) -> None:
        nonlocal told, share
        if progress > share and time.monotonic() - told >= _INTERVAL:
            told, share = time.monotonic(), min(progress, _NEARLY)
            log.info("%s: %.0f %%", what, share * 100, extra=_fields(what, share))

    log.info("%s (%s)" if note else "%s%s", what, note, extra=_fields(what, 0.0))
    ended = "given up"
    try:
        yield tell
        ended = "done"
    finally:
        log.info("%s: %s after %.1f s", what, ended, time.monotonic() - begun, extra=_fields(what, 1.0))


def step_of(record: logging.LogRecord) -> tuple[str, float] | None:
    """Read the step of a record and its progress; `None` for a record of no step."""
    step, progress = getattr(record, "step", None), getattr(record, "progress", None)
    if isinstance(step, str) and step and isinstance(progress, int | float) and math.isfinite(progress):
        return step, min(max(float(progress), 0.0), 1.0)
    return None


def _fields(what: str, progress: float) -> dict[str, str | float]:
    return {"step": what, "progress": progress}
