"""From tokens to a model's numbers, a pass at a time."""

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from gateway_hf.embedding.encoder import TokenRow, run_passes, to_inputs


def takes(model: PreTrainedModel, name: str) -> bool:
    """Tell whether a model is called with an argument of this name."""
    return name in inspect.signature(model.forward).parameters


class Classifier:
    """A model with a number for each label; used by one thread. Without `padding` it reads texts one by one."""

    def __init__(self, model: PreTrainedModel, padding: int | None) -> None:
        self._model = model
        self._padding = padding

    def score(self, rows: Sequence[TokenRow], most: int, on_pass: Callable[[], None] = lambda: None) -> Tensor:
        """Return the numbers, float32 of shape (rows, labels) on the CPU."""
        return run_passes(rows, most if self._padding is not None else 0, self._pass, on_pass)

    def _pass(self, rows: list[TokenRow]) -> Tensor:
        inputs, _ = to_inputs(rows, self._padding or 0)
        numbers: Tensor = self._model(**{name: each.to(self._model.device) for name, each in inputs.items()}).logits
        return numbers.float().cpu()


class YesOrNo:
    """A causal model that answers a question: how much likelier it says the token `yes` than `no`, as log-odds."""

    def __init__(self, model: PreTrainedModel, yes: int, no: int, padding: int) -> None:
        self._model = model
        self._yes, self._no = yes, no
        self._padding = padding
        # Padding at the left moves a text, and a model without places of its own would count it in.
        self._padded = takes(model, "position_ids")

    def score(self, rows: Sequence[TokenRow], most: int, on_pass: Callable[[], None] = lambda: None) -> Tensor:
        """Return the log-odds, float32 of shape (rows, 1) on the CPU."""
        return run_passes(rows, most if self._padded else 0, self._pass, on_pass)

    def _pass(self, rows: list[TokenRow]) -> Tensor:
        inputs, mask = to_inputs(rows, self._padding, left=True)
        if self._padded:
            inputs["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        last = {"logits_to_keep": 1} if takes(self._model, "logits_to_keep") else {}
        moved = {name: each.to(self._model.device) for name, each in inputs.items()}
        logits: Tensor = self._model(**moved, use_cache=False, **last).logits[:, -1].float()
        return (logits[:, self._yes] - logits[:, self._no])[:, None].cpu()
