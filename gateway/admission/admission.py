"""The one way to a place in a model's batch."""

import time
from collections.abc import Callable

from gateway.admission.permit import Permit
from gateway.admission.pressure import Pressure
from gateway.admission.queue import ModelQueue
from gateway.admission.settings import AdmissionSettings
from gateway.admission.waiter import WaitLimits
from gateway.engine import EngineError, GenerateRequest, ModelCard
from gateway.linux import used_share


class Admission:
    """Keeps one door a model; `clock` is what every time here is read from."""

    def __init__(
        self,
        settings: AdmissionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        memory: Callable[[], float | None] = used_share,
    ) -> None:
        self.clock = clock
        self._pressure = Pressure(memory, clock)
        self.doors: dict[str, ModelQueue] = {}
        self._settings = settings or AdmissionSettings()

    def permit(self, request: GenerateRequest, card: ModelCard, caller: str, patience: WaitLimits) -> Permit:
        """Make the permit of one request of `caller`: enter it to wait for a place and to hold it.

        Raises `MemoryPressure` where there is too little memory left for it.

        Entering raises `Overloaded` at once when the line is full or the first token would come too late,
        `QueueTimeout` when the caller's patience ends in the line, `Unavailable` while the breaker is open.
        """
        permit = Permit(self.door(card), request, caller, patience)
        self._pressure.check(permit.cost)
        return permit

    def door(self, card: ModelCard) -> ModelQueue:
        """Find the door of a model, as its card is now."""
        door = self.doors.get(card.name)
        if door is None:
            door = self.doors[card.name] = ModelQueue(card, self.clock, self._settings)
        else:
            door.keep(card)
        return door

    def keep(self, settings: AdmissionSettings) -> None:
        """Keep all doors by other settings from now on; who waits or runs stays."""
        self._settings = settings
        for door in self.doors.values():
            door.settings = settings

    def turn_away(self, error: EngineError) -> None:
        """Send away all who wait at any door, with `error`."""
        for door in self.doors.values():
            door.refuse_all(error)
