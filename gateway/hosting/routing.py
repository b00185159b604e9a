"""From a model's name to who serves it, as far as the caller may know."""

from gateway.auth import Caller
from gateway.config.snapshot import CurrentConfig
from gateway.engine import ModelCard, Unavailable, UnknownModel
from gateway.hosting.hosting import HostedEngine, Hosting


class Router:
    """Finds the engine for a request. To a caller, models that it may not use do not exist.

    A name of `[routes]` means the first of its engines that can serve.
    """

    def __init__(self, hosting: Hosting, live: CurrentConfig) -> None:
        self._hosting = hosting
        self._live = live

    def name(self, model: str | None) -> str:
        """Say what the model is called that `model` means; empty for none of ours."""
        engines = self._engines(model)
        return self._hosting.name_of(engines[0] if engines else model)

    def aliases(self, seat: HostedEngine) -> tuple[str, ...]:
        """Name the routes that may lead to an engine."""
        return tuple(alias for alias, engines in self._live.config.routes.items() if seat.name in engines)

    def cards(self, caller: Caller) -> list[tuple[HostedEngine, ModelCard]]:
        """List what the caller may use."""
        return [(seat, card) for seat in self._hosting.engines for card in seat.cards if caller.may_use(card)]

    def find_any(self, model: str, caller: Caller) -> tuple[HostedEngine, ModelCard]:
        """Find a model, loaded or not; raise `UnknownModel`, or `Unavailable` where it may yet appear."""
        cards = self.cards(caller)
        for name in self._engines(model) or (model,):
            for seat, card in cards:
                if seat.answers_to(name) is card:
                    return seat, card
        return self.find_ready(model, caller)

    def find_ready(self, model: str | None, caller: Caller) -> tuple[HostedEngine, ModelCard]:
        """Find who serves `model`, or the caller's first where it is `None`; raise `UnknownModel` or `Unavailable`."""
        engines = self._engines(model)
        if not engines:
            return self._find(model, caller)
        unavailable: Unavailable | None = None
        for engine in engines:
            try:
                return self._find(engine, caller)
            except Unavailable as error:
                unavailable = unavailable or error
            except UnknownModel:
                continue
        raise unavailable or self._unknown(model, caller)

    def _find(self, model: str | None, caller: Caller) -> tuple[HostedEngine, ModelCard]:
        if model is None and caller.models is not None and (own := self.cards(caller)):
            model = own[0][1].name
        named = next((card for seat in self._hosting.engines if model and (card := seat.answers_to(model))), None)
        if named is None or caller.may_use(named):
            try:
                return self._hosting.find(model)
            except UnknownModel:
                pass
        raise self._unknown(model, caller)

    def _engines(self, model: str | None) -> tuple[str, ...]:
        return () if model is None else self._live.config.routes.get(model, ())

    def _unknown(self, model: str | None, caller: Caller) -> UnknownModel:
        whose = "" if caller.models is None else " for this key"
        return UnknownModel(f"there is no model {model!r}{whose}; there is {self._names(caller)}", param="model")

    def _names(self, caller: Caller) -> str:
        """List what a caller can ask for by name."""
        cards = self.cards(caller)
        seats = list(dict.fromkeys(seat.name for seat, _ in cards))
        routes = [alias for alias, engines in self._live.config.routes.items() if not set(engines).isdisjoint(seats)]
        return ", ".join(map(repr, [*(card.name for _, card in cards), *routes])) or "none"
