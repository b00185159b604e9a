"""The hosted engines by the names of their models: lookup only, which loads and ends nothing."""

from collections.abc import Iterable, Mapping

from gateway.engine import Health, LoadFailed, ModelCard, Unavailable, UnknownModel
from gateway.hosting.hosted import HostedEngine


class NotLoaded(Unavailable):
    """The model of this engine was never loaded: its card is known once it is, and a request may wait for that."""

    def __init__(self, hosted: HostedEngine) -> None:
        super().__init__(f"the model {hosted.label!r} is not loaded yet", retry_after=2.0)
        self.hosted = hosted


class Directory:
    """The engines of a configuration, in its order: the first serves a request that names no model."""

    def __init__(self, engines: Iterable[HostedEngine]) -> None:
        self.engines = tuple(engines)

    @property
    def health(self) -> Health:
        """Their health together: ready when every engine has settled and at least one serves."""
        found = {hosted.effective_health for hosted in self.engines}
        order = (Health.STARTING, Health.READY, Health.FAILED)
        return next((health for health in order if health in found), Health.UNLOADED)

    def loaded(self) -> list[tuple[str, ModelCard]]:
        """List the cards of the loaded models, with their engines' plugins."""
        ready = (hosted for hosted in self.engines if hosted.health is Health.READY)
        return [(hosted.plugin, card) for hosted in ready for card in hosted.cards]

    def places(self) -> dict[str, int]:
        """Count the places of each model whose card is known, loaded or not; an adapter has those of its model."""
        cards = (card for hosted in self.engines if hosted.knows_cards for card in hosted.cards if not card.parent)
        return {card.name: max(card.places, 1) for card in cards}

    def up(self) -> dict[str, bool]:
        """Tell of each engine whether it serves."""
        return {hosted.name: hosted.effective_health is Health.READY for hosted in self.engines}

    def wanted(self) -> Mapping[tuple[str, ...], float]:
        """Tell of each engine whether it is to serve: not one that was unloaded by hand, or is loaded by hand only."""
        return {(hosted.name,): float(hosted.effective_health is not Health.UNLOADED) for hosted in self.engines}

    def restarts(self) -> Mapping[tuple[str, ...], float]:
        """Count how often each engine's process was replaced, by engine and reason."""
        counts = ((hosted.name, hosted.restarts) for hosted in self.engines)
        return {(name, reason): number for name, restarts in counts for reason, number in restarts.items()}

    def memory(self) -> Mapping[tuple[str, ...], float]:
        """Measure the memory of each engine that has a process of its own, in bytes, by engine."""
        found = ((hosted.name, hosted.resident_bytes) for hosted in self.engines)
        return {(name,): size for name, size in found if size is not None}

    def cpu_seconds(self) -> Mapping[tuple[str, ...], float]:
        """Measure the time that each engine with a process of its own has computed for, in seconds, by engine."""
        found = ((hosted.name, hosted.cpu_seconds) for hosted in self.engines)
        return {(name,): seconds for name, seconds in found if seconds is not None}

    def preemptions(self) -> Mapping[tuple[str, ...], float]:
        """Count the answers that lost their room in the cache of each engine that says so, by engine."""
        found = ((hosted.name, hosted.told.preemptions) for hosted in self.engines)
        return {(name,): number for name, number in found if number is not None}

    def drifts(self) -> Mapping[tuple[str, ...], float]:
        """Tell how far each loaded model is from what it once said, in nats, by model, as far as engines say it."""
        found = ((hosted.label, hosted.told.drift) for hosted in self.engines if hosted.engine is not None)
        return {(name,): drift for name, drift in found if drift is not None}

    def cache_used(self) -> Mapping[tuple[str, ...], float]:
        """Count the tokens that running answers have in the cache of each engine, by engine, as it last said."""
        return {(hosted.name,): hosted.cache_used for hosted in self.engines if hosted.engine is not None}

    def cache_sizes(self) -> Mapping[tuple[str, ...], float]:
        """Count the tokens that the cache of each loaded model has room for, by model; one with an adapter has none."""
        cards = (card for _, card in self.loaded() if not card.parent)
        return {(card.name,): card.cache_tokens for card in cards if card.cache_tokens}

    def name_of(self, model: str | None) -> str:
        """Return the own name of the model that `model` means, ready or not; empty for none of ours."""
        if model is None:
            return self.engines[0].cards[0].name if self.engines[0].cards else ""
        return next((card.name for hosted in self.engines if (card := hosted.answers_to(model))), "")

    def find(self, model: str | None) -> tuple[HostedEngine, ModelCard]:
        """Find the engine that serves `model`, or will once it is loaded; the first where it is `None`.

        Raises `UnknownModel`, `Unavailable`, or `NotLoaded` where it has to be loaded to know its card.
        """
        if model is None:
            hosted = _ready(self.engines[0])
            return hosted, hosted.cards[0]
        for hosted in self.engines:
            if card := hosted.answers_to(model):
                return _ready(hosted), card
        for hosted in self.engines:
            if hosted.name == model:
                _ready(hosted)
        raise self._unknown(model, "model")

    def named(self, name: str) -> HostedEngine:
        """Find an engine, loaded or not, by its own name or a model's; raise `UnknownModel` or `Unavailable`."""
        for hosted in self.engines:
            if hosted.name == name or hosted.answers_to(name):
                return hosted
        raise self._unknown(name, "name")

    def check_cards(self, own: HostedEngine, cards: tuple[ModelCard, ...]) -> None:
        """Refuse an engine that serves nothing, or a name that another serves: it would mean two models."""
        if not cards:
            raise LoadFailed("the engine serves no model")
        taken = {card.name: other.name for other in self.engines if _is_other(other, own) for card in other.cards}
        for card in cards:
            if card.name in taken:
                raise LoadFailed(f"the engine {taken[card.name]!r} serves the name {card.name!r} already")

    def _unknown(self, name: str, param: str) -> UnknownModel:
        """Make the error for an unknown name; raise `Unavailable` while an engine loads, for that one may serve it."""
        for hosted in self.engines:
            if hosted.health is Health.STARTING:
                _ready(hosted)
        known = ", ".join(repr(card.name) for hosted in self.engines for card in hosted.cards) or "none loaded"
        return UnknownModel(f"there is no model {name!r}; there is {known}", param=param)


def _is_other(other: HostedEngine, own: HostedEngine) -> bool:
    return other is not own and other.knows_cards


def _ready(hosted: HostedEngine) -> HostedEngine:
    if hosted.health is Health.READY:
        return hosted
    if not hosted.is_asleep:
        raise Unavailable(f"the model is not ready: {hosted.reason}", retry_after=hosted.retry_after)
    if not hosted.knows_cards:
        raise NotLoaded(hosted)
    return hosted
