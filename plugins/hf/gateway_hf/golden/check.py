"""Compare a loaded model with what it said of the golden prompts once; refuse one that has drifted too far."""

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.engine import DiskCache, EngineError, LoadFailed, obtain, read_own
from gateway_hf.golden.prompts import Golden, Logprobs, drift_of, read_prompts, score_prompts
from gateway_hf.loading.weights import LoadedModel
from gateway_hf.settings import Settings, cache_folder

_log = logging.getLogger("gateway_hf")

BUILTIN = Path(__file__).with_name("builtin.json")
_FILE = "golden.json"
_LARGEST = 1 << 20
# How far a model may be from itself, in nats, by its number format: several times what was measured (see DECISIONS).
_BOUNDS = {"float32": 0.02, "float16": 0.1, "bfloat16": 0.3}
_BOUND_ROUNDED = 0.6


class DriftGauge(NamedTuple):
    """How a drift is measured: its unit, and what is allowed by the number format."""

    unit: str
    measure: Callable[[Golden, Logprobs], float]
    bounds: Mapping[str, float]
    bound_else: float

    def bound_of(self, build: Mapping[str, str]) -> float:
        """Return how far models of a build may be off."""
        return self.bounds.get(build.get("dtype", ""), self.bound_else)


class KnownGolden(NamedTuple):
    """What to compare with, where it lies, and how it is made anew."""

    golden: Golden
    place: str
    remedy: str


_NATS = DriftGauge("nats", drift_of, _BOUNDS, _BOUND_ROUNDED)


def check_golden(settings: Settings, loaded: LoadedModel) -> float | None:
    """Return the drift of a loaded model in nats; `None` where it is not compared.

    The first load of a model stores what it says. Raises `LoadFailed` where the drift is above its bound.
    """
    if settings.max_drift == 0:
        return None
    try:
        prompts = read_prompts(loaded.text, loaded.context_window)
        said = score_prompts(loaded.forward, prompts, batched=loaded.guessing.most > 0) if prompts else ()
    except LoadFailed:
        raise
    except EngineError as error:
        _log.warning("the model is not compared with what it said before: %s", error.message)
        return None
    if not said:
        return None
    now = Golden(loaded.build, prompts, said)
    # Neither number format nor versions: it is these that are compared.
    origin = {"golden": loaded.build["weights"], "prompts": json.dumps(prompts)}
    return hold_to(settings, loaded.name, now, _shipped(settings, now) or kept(settings, now, origin), _NATS)


def hold_to(settings: Settings, name: str, now: Golden, known: KnownGolden | None, gauge: DriftGauge) -> float | None:
    """Return how far a model is from what is known; raise `LoadFailed` where that is above its bound."""
    if known is None:
        return None
    bound = settings.max_drift or max(gauge.bound_of(now.build), gauge.bound_of(known.golden.build))
    drift = gauge.measure(known.golden, now.logprobs)
    _log.info("the drift of the model is %.3g %s; %.3g are allowed", drift, gauge.unit, bound)
    if not drift <= bound:
        off = f"{drift:.3g} {gauge.unit}, and max_drift is {bound:.3g}"
        raise LoadFailed(_refusal(name, now.build, known, off))
    return drift


def kept(settings: Settings, now: Golden, origin: Mapping[str, str]) -> KnownGolden | None:
    """Find what was said before, or store what is said; `None` where that cannot be."""
    try:
        made = obtain(
            DiskCache(cache_folder(settings)), "golden", dict(origin), partial(_write, msgspec.json.encode(now))
        )
        try:
            golden = msgspec.json.decode(read_own(_FILE, _LARGEST, folder=made.hold.descriptor), type=Golden)
        finally:
            made.hold.close()
    except (OSError, msgspec.MsgspecError) as error:
        why = error.strerror if isinstance(error, OSError) else "what is stored cannot be read"
        _log.warning("the model is not compared with what it said before: the cache folder: %s", why)
        return None
    name = made.folder.name
    return KnownGolden(golden, f"in the cache folder, {name}", f"if the change is wanted, remove {name} there")


def _shipped(settings: Settings, now: Golden) -> KnownGolden | None:
    if settings.model != "builtin":
        return None
    golden = msgspec.json.decode(BUILTIN.read_bytes(), type=Golden)
    if golden.build["weights"] != now.build["weights"] or golden.prompts != now.prompts:
        return None
    return KnownGolden(golden, "that came with the package", "install the package again, or try kernels = off")


def _write(content: bytes, folder: Path) -> None:
    (folder / _FILE).write_bytes(content)


def _refusal(name: str, now: Mapping[str, str], known: KnownGolden, off: str) -> str:
    then = known.golden.build
    changed = ", ".join(
        f"{part} {then.get(part, 'none')} -> {now.get(part, 'none')}"
        for part in sorted({*then, *now})
        if then.get(part) != now.get(part)
    )
    return (
        f"the model '{name}' says something else than its golden prompts {known.place}: it is off by {off}; "
        f"changed since: {changed or 'nothing, so files may be damaged'}; {known.remedy}"
    )
