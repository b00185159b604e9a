"""Compare a loaded model with what it said of the golden prompts once; refuse one that has drifted too far."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.engine import DiskCache, EngineError, LoadFailed, obtain, read_own
from gateway_hf.golden.prompts import Golden, Logprobs, PromptTokens, drift_of, read_prompts, score_prompts
from gateway_hf.loading.weights import LoadedModel
from gateway_hf.settings import Settings, cache_folder

_log = logging.getLogger("gateway_hf")

BUILTIN = Path(__file__).with_name("builtin.json")
_FILE = "golden.json"
_LARGEST = 1 << 20
# How far a model may be from itself, in nats, by its number format: several times what was measured (see DECISIONS).
_BOUNDS = {"float32": 0.02, "float16": 0.1, "bfloat16": 0.3}
_BOUND_INT8 = 0.6


class _KnownGolden(NamedTuple):
    """What to compare with, where it lies, and how it is made anew."""

    golden: Golden
    place: str
    remedy: str


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
    stored = _stored(settings, loaded, prompts, said) if said else None
    if stored is None:
        return None
    bound = settings.max_drift or max(_bound_of(loaded.build), _bound_of(stored.golden.build))
    drift = drift_of(stored.golden, said)
    _log.info("the drift of the model is %.3g nats; %.3g are allowed", drift, bound)
    if not drift <= bound:
        raise LoadFailed(_refusal(loaded, stored, drift, bound))
    return drift


def _stored(settings: Settings, loaded: LoadedModel, prompts: PromptTokens, said: Logprobs) -> _KnownGolden | None:
    """Find what the model said before, or store what it says; `None` where that cannot be."""
    if settings.model == "builtin":
        golden = msgspec.json.decode(BUILTIN.read_bytes(), type=Golden)
        if golden.build["weights"] == loaded.build["weights"] and golden.prompts == prompts:
            return _KnownGolden(golden, "that came with the package", "install the package again, or try kernels = off")
    # Neither number format nor versions: it is these that are compared.
    origin = {"golden": loaded.build["weights"], "prompts": json.dumps(prompts)}
    try:
        made = obtain(
            DiskCache(cache_folder(settings)),
            "golden",
            origin,
            partial(_write, msgspec.json.encode(Golden(loaded.build, prompts, said))),
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
    return _KnownGolden(golden, f"in the cache folder, {name}", f"if the change is wanted, remove {name} there")


def _write(content: bytes, folder: Path) -> None:
    (folder / _FILE).write_bytes(content)


def _bound_of(build: dict[str, str]) -> float:
    kind = build.get("dtype", "")
    return _BOUND_INT8 if kind.startswith("int8") else _BOUNDS.get(kind, _BOUND_INT8)


def _refusal(loaded: LoadedModel, stored: _KnownGolden, drift: float, bound: float) -> str:
    then, now = stored.golden.build, loaded.build
    changed = ", ".join(
        f"{name} {then.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )
    return (
        f"the model '{loaded.name}' says something else than its golden prompts {stored.place}: it is off by "
        f"{drift:.3g} nats, and max_drift is {bound:.3g}; changed since: "
        f"{changed or 'nothing, so files may be damaged'}; {stored.remedy}"
    )
