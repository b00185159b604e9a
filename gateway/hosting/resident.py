"""A model as far as memory goes, the requests that wait for it, and what is decided of it: the words of `Residency`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field


class Stage(StrEnum):
    """Where a model is; all but the first take memory."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    LEAVING = "leaving"


class Claim(Struct, eq=False):
    """A request that waits for a model; once it is `is_held`, the model stays until the claim ends."""

    resident: "Resident"
    is_held: bool = False


class Resident(Struct, kw_only=True, eq=False):
    """One model, as far as memory goes. Sizes are in bytes, moments in the seconds of any one clock.

    `leases` counts the requests that it answers, `claims` are those that wait for it. A `size` that is not known counts
    for nothing. One that `is_closing` makes way: it takes no new requests.
    """

    name: str
    idle_seconds: float | None = None
    is_pinned: bool = False
    size: int | None = None
    stage: Stage = Stage.UNLOADED
    leases: int = 0
    claims: list[Claim] = field(default_factory=list)
    is_closing: bool = False
    last_used: float = 0.0
    began_at: float = 0.0
    loaded_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0

    @property
    def turn_ends(self) -> float:
        """The moment from which on it may have to make way although it is busy."""
        return 2 * self.loaded_at - self.began_at


class Verdict(StrEnum):
    """Load a model, unload it for room or since it is idle, let claims in, or refuse them."""

    LOAD = "load"
    EVICT = "evict"
    EXPIRE = "expire"
    ADMIT = "admit"
    REFUSE = "refuse"


class Decision(NamedTuple):
    """What to do with one model; the claims that it lets in or refuses, and why."""

    verdict: Verdict
    resident: Resident
    claims: tuple[Claim, ...] = ()
    why: str = ""


class Bounds(Struct, frozen=True):
    """The most that may be in memory at once: bytes, and models; `None` is no bound."""

    memory: int | None = None
    models: int | None = None

    def allow(self, memory: int, models: int) -> bool:
        """Tell whether so much may be in memory."""
        return (self.memory is None or memory <= self.memory) and (self.models is None or models <= self.models)


def why_never(resident: Resident, others: Sequence[Resident], bounds: Bounds) -> str:
    """Say why a model can never be loaded beside the pinned ones among those in memory; empty where it can."""
    pinned = [each for each in others if each.is_pinned]
    size, held = resident.size or 0, sum(each.size or 0 for each in pinned)
    if bounds.memory is not None and size + held > bounds.memory:
        beside = f", {held:,} of which pinned models take" if held else ""
        return f"it would take about {size:,} bytes, and models.memory_budget is {bounds.memory:,}{beside}"
    if bounds.models is not None and len(pinned) >= bounds.models:
        return f"{len(pinned)} pinned models are loaded, and models.max_loaded is {bounds.models}"
    return ""


def why_not_yet(resident: Resident, others: Sequence[Resident]) -> str:
    """Say what a model waits for beside those in memory, none of which is named: callers may not know of them."""
    if resident.stage is Stage.LEAVING:
        return "unloading it first"
    if resident.stage is not Stage.UNLOADED:
        return "making way for another model"
    counts = {
        "busy": sum(each.stage is Stage.LOADED and each.leases > 0 for each in others),
        "loading": sum(each.stage is Stage.LOADING for each in others),
        "unloading": sum(each.stage is Stage.LEAVING for each in others),
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"waiting for room ({found})" if found else "waiting for room"
