"""From a model's name to who serves it, as far as the caller may know."""

from gateway.auth import Caller
from gateway.engine import ModelCard, UnknownModel
from gateway.hosting import Hosting, Seat


class Routing:
    """Finds the engine for a request. To a caller, models that it may not use do not exist."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    def name(self, model: str | None) -> str:
        """Say what the model is called that `model` means; empty for none of ours."""
        return self._hosting.name_of(model)

    def cards(self, caller: Caller) -> list[tuple[Seat, ModelCard]]:
        """List what the caller may use."""
        return [(seat, card) for seat in self._hosting.seats for card in seat.cards if caller.may_use(card)]

    def find(self, model: str | None, caller: Caller) -> tuple[Seat, ModelCard]:
        """Find who serves `model`, or the caller's first where it is `None`; raise `UnknownModel` or `Unavailable`."""
        if caller.models is None:
            return self._hosting.find(model)
        if model is None and (own := self.cards(caller)):
            model = own[0][1].name
        named = next((card for seat in self._hosting.seats if model and (card := seat.answers_to(model))), None)
        if named is None or caller.may_use(named):
            try:
                return self._hosting.find(model)
            except UnknownModel:
                pass
        names = ", ".join(repr(card.name) for _, card in self.cards(caller)) or "none"
        raise UnknownModel(f"there is no model {model!r} for this key; there is {names}", param="model")
