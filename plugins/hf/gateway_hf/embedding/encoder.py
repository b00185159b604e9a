"""Run an encoder over many texts at once, with little padding."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.embedding.pooling import pool
from gateway_hf.embedding.recipe import Recipe


class TokenRow(NamedTuple):
    """The tokens of one text; the first `skipped` of them are read, and left out of its vector."""

    ids: Sequence[int]
    skipped: int = 0


class Encoder:
    """A model and what stands behind it; used by one thread."""

    def __init__(self, model: nn.Module, head: nn.Module, recipe: Recipe, padding: int) -> None:
        self._model = model
        self._head = head
        self._recipe = recipe
        self._padding = padding
        self._device = next(model.parameters()).device

    def encode(self, rows: Sequence[TokenRow], most: int, on_pass: Callable[[], None] = lambda: None) -> Tensor:
        """Return the vectors, float32 of shape (rows, numbers) on the CPU.

        A pass has `most` tokens, padding counted; `on_pass` is called behind each.
        """
        made: list[Tensor | None] = [None] * len(rows)
        with torch.inference_mode():
            for places in passes([len(row.ids) for row in rows], most):
                for place, vector in zip(places, self._pass([rows[place] for place in places]), strict=True):
                    made[place] = vector
                on_pass()
        return torch.stack([vector for vector in made if vector is not None])

    def shorten(self, vector: bytes, size: int) -> bytes:
        """Return the first `size` numbers of a vector, normalized where the model normalizes."""
        numbers = torch.frombuffer(bytearray(vector), dtype=torch.float32)[:size]
        return bytes((nn.functional.normalize(numbers, dim=0) if self._recipe.normalizes else numbers).numpy())

    def _pass(self, rows: list[TokenRow]) -> Tensor:
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self._padding)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
            mask[at, : len(row.ids)] = True
        counted = mask.clone()
        for at, row in enumerate(rows):
            counted[at, : min(row.skipped, len(row.ids) - 1)] = False
        ids, mask, counted = (each.to(self._device) for each in (ids, mask, counted))
        # Without padding there is nothing to hide, and attention takes its quicker way.
        hidden: dict[str, Any] = {} if bool(mask.all()) else {"attention_mask": mask.long()}
        states: Tensor = self._model(input_ids=ids, **hidden).last_hidden_state
        vectors = self._head(pool(states, counted, self._recipe.poolings))
        return (nn.functional.normalize(vectors, dim=1) if self._recipe.normalizes else vectors).cpu()


def passes(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield the places of texts that are computed together: of like lengths, `most` tokens in all but for a longer one.

    A text begins a pass of its own rather than pad the others by more than an eighth.
    """
    found: list[int] = []
    longest = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[place]
        if found and ((len(found) + 1) * longest > most or length * 8 < longest * 7):
            yield found
            found = []
        if not found:
            longest = length
        found.append(place)
    if found:
        yield found
