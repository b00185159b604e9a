"""Run an encoder over many texts at once, with little padding."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.embedding.pooling import pool
from gateway_hf.embedding.recipe import Recipe


class TokenRow(NamedTuple):
    """The tokens of one text; the first `skipped` of them are read, and left out of its vector.

    `types` say of a pair which text each token is of, for a model that is told.
    """

    ids: Sequence[int]
    skipped: int = 0
    types: Sequence[int] = ()


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
        return run_passes(rows, most, self._pass, on_pass)

    def digest(self) -> str:
        """Digest what makes vectors of the model's states: the way of pooling, and the layers behind it."""
        recipe = self._recipe
        kinds = [dense.activation for dense in recipe.dense]
        digest = hashlib.sha256(repr((recipe.poolings, recipe.normalizes, kinds)).encode())
        for weight in self._head.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()

    def shorten(self, vector: bytes, size: int) -> bytes:
        """Return the first `size` numbers of a vector, normalized where the model normalizes."""
        numbers = torch.frombuffer(bytearray(vector), dtype=torch.float32)[:size]
        return bytes((nn.functional.normalize(numbers, dim=0) if self._recipe.normalizes else numbers).numpy())

    def _pass(self, rows: list[TokenRow]) -> Tensor:
        inputs, mask = to_inputs(rows, self._padding)
        counted = mask.clone()
        for at, row in enumerate(rows):
            counted[at, : min(row.skipped, len(row.ids) - 1)] = False
        states: Tensor = self._model(**{name: each.to(self._device) for name, each in inputs.items()}).last_hidden_state
        vectors = self._head(pool(states, counted.to(self._device), self._recipe.poolings))
        return (nn.functional.normalize(vectors, dim=1) if self._recipe.normalizes else vectors).cpu()


def run_passes(
    rows: Sequence[TokenRow], most: int, compute: Callable[[list[TokenRow]], Tensor], on_pass: Callable[[], None]
) -> Tensor:
    """Return what `compute` makes of each row, stacked in their order; a pass has `most` tokens, padding counted."""
    made: list[Tensor | None] = [None] * len(rows)
    with torch.inference_mode():
        for places in passes([len(row.ids) for row in rows], most):
            for place, numbers in zip(places, compute([rows[place] for place in places]), strict=True):
                made[place] = numbers
            on_pass()
    return torch.stack([numbers for numbers in made if numbers is not None])


def to_inputs(rows: Sequence[TokenRow], padding: int, *, left: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Return what a model is called with for a pass, and the mask (rows, longest), true where a token stands.

    Rows are padded at their end, or at the `left`.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), padding)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    types = torch.zeros_like(ids) if rows[0].types else None
    for at, row in enumerate(rows):
        place = slice(longest - len(row.ids), None) if left else slice(len(row.ids))
        ids[at, place] = torch.tensor(row.ids)
        mask[at, place] = True
        if types is not None:
            types[at, place] = torch.tensor(row.types)
    inputs = {"input_ids": ids} if types is None else {"input_ids": ids, "token_type_ids": types}
    # Without padding there is nothing to hide, and attention takes its quicker way.
    return inputs if bool(mask.all()) else inputs | {"attention_mask": mask.long()}, mask


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
