"""The libraries' progress bars, told to a step of loading instead of being drawn."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.std import tqdm  # type: ignore[import-untyped] # it has no types
from transformers.utils.logging import disable_progress_bar, set_tqdm_hook

Tell = Callable[[float], None]


def bar_for(tell: Callable[[float, float], None], unit: str = "it") -> type[tqdm]:
    """Return a class of bars: those of `unit` call `tell` with how much is done, and of how much (0 if unknown)."""

    class StepBar(tqdm):  # type: ignore[misc] # as above
        """A bar that draws nothing."""

        monitor_interval = 0  # no thread of its own

        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as tqdm's
            super().__init__(*args, **kwargs | {"file": io.StringIO(), "disable": False})

        def display(self, *_: object, **__: object) -> None:
            """Say how far it is; tqdm calls it no more than ten times a second."""
            if self.unit == unit:
                tell(float(self.n), float(self.total or 0))

    return StepBar


@contextmanager
def told_by_transformers(tell: Tell) -> Iterator[None]:
    """Hear from transformers how much of a model's weights is read while the block runs."""
    disable_progress_bar()  # type: ignore[no-untyped-call] # so is the library
    bar = bar_for(lambda done, of: tell(done / of if of else 0.0))
    before = set_tqdm_hook(lambda _, args, kwargs: bar(*args, **kwargs))
    try:
        yield
    finally:
        set_tqdm_hook(before)
