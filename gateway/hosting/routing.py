"""From a model's name to the engine that serves it, as far as the caller may know."""

from gateway.auth import Caller
from gateway.config import RouteSettings
from gateway.config.snapshot import CurrentConfig
from gateway.engine import Unavailable, UnknownModel
from gateway.hosting.directory import NotLoaded
from gateway.hosting.hosted import HostedEngine
from gateway.hosting.hosting import Hosting
from gateway.hosting.route import Route, Target


class Router:
    """Finds the engine for a request. To a caller, models that it may not use do not exist.

    A name of `[routes]` means its engines that can serve, of which the first stands for all until one is chosen.
    """

    def __init__(self, hosting: Hosting, current: CurrentConfig) -> None:
        self._hosting = hosting
        self._current = current

    def name(self, model: str | None) -> str:
        """Return the own name of the model that `model` means; empty for none of ours."""
        engines = self._engines(model)
        return self._hosting.directory.name_of(engines[0] if engines else model)

    def aliases(self, hosted: HostedEngine) -> tuple[str, ...]:
        """Name the routes that may lead to an engine."""
        return tuple(alias for alias in self._current.config.routes if hosted.name in self._engines(alias))

    def targets(self, caller: Caller) -> list[Target]:
        """List the models that the caller may use."""
        return [
            target
            for hosted in self._hosting.engines
            for target in (Target(hosted, card) for card in hosted.cards)
            if self._may_use(caller, target)
        ]

    def find_any(self, model: str, caller: Caller) -> Target:
        """Find a model, loaded or not; raise `UnknownModel`, or `Unavailable` where it may yet appear."""
        targets = self.targets(caller)
        for name in self._engines(model) or (model,):
            for target in targets:
                if target.hosted.answers_to(name) is target.card:
                    return target
        return self.find_ready(model, caller)

    def find_ready(self, model: str | None, caller: Caller) -> Target:
        """Find the engine that serves `model`, or the caller's first model where it is `None`.

        Raises `UnknownModel` or `Unavailable`, `NotLoaded` among them.
        """
        settings = self._route(model)
        return self.find_named(model, caller) if settings is None else self._find_all(model, settings, caller)

    def find_named(self, model: str | None, caller: Caller) -> Target:
        """Find the engine of a model as `find_ready` does, but by no name of a route."""
        if caller.models is not None:
            targets = self.targets(caller)
            if model is None and targets:
                model = targets[0].card.name
            elif model is not None and self._is_hidden(model, caller):
                raise self._unknown(model, caller)
        try:
            return Target(*self._hosting.find(model))
        except UnknownModel as error:
            raise self._unknown(model, caller) from error

    def _find_all(self, model: str | None, settings: RouteSettings, caller: Caller) -> Target:
        """Find the engines of a route that serve; raise where none does."""
        found: list[Target] = []
        unavailable: Unavailable | None = None
        wished: HostedEngine | None = None
        for engine in settings.engines:
            try:
                found.append(self.find_named(engine, caller))
            except Unavailable as error:
                if isinstance(error, NotLoaded) and unavailable is None and not found:
                    wished = error.hosted
                unavailable = unavailable or error
            except UnknownModel:
                continue
        if not found:
            raise unavailable or self._unknown(model, caller)
        is_passed = settings.strategy != "ordered" or found[0].hosted.name != settings.engines[0]
        skipped = unavailable.code if unavailable is not None and is_passed else ""
        return found[0]._replace(route=Route(settings, tuple(found), skipped, wished))

    def _is_hidden(self, model: str, caller: Caller) -> bool:
        """Tell whether a name means a model that the caller may not use."""
        found = (Target(hosted, card) for hosted in self._hosting.engines if (card := hosted.answers_to(model)))
        named = next(found, None)
        return named is not None and not self._may_use(caller, named)

    def _may_use(self, caller: Caller, target: Target) -> bool:
        """Tell whether this model is meant by a name that the caller may use: a model's, an engine's or a route's."""
        if caller.models is None:
            return True
        hosted, card = target.hosted, target.card
        return any(
            hosted.answers_to(hosted.name if hosted.name in self._engines(name) else name) is card
            for name in caller.models
        )

    def _engines(self, model: str | None) -> tuple[str, ...]:
        settings = self._route(model)
        return () if settings is None else settings.engines

    def _route(self, model: str | None) -> RouteSettings | None:
        return None if model is None else self._current.config.route(model)

    def _unknown(self, model: str | None, caller: Caller) -> UnknownModel:
        whose = "" if caller.models is None else " for this key"
        return UnknownModel(f"there is no model {model!r}{whose}; there is {self._names(caller)}", param="model")

    def _names(self, caller: Caller) -> str:
        """List what a caller can ask for by name."""
        targets = self.targets(caller)
        engines = list(dict.fromkeys(target.hosted.name for target in targets))
        routes = [alias for alias in self._current.config.routes if not set(self._engines(alias)).isdisjoint(engines)]
        return ", ".join(map(repr, [*(target.card.name for target in targets), *routes])) or "none"
