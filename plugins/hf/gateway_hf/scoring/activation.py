"""From a model's numbers to scores and probabilities, as its files say it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gateway.engine import LoadFailed
from gateway_hf.loading import checks as gate
from gateway_hf.loading.sources import Source

Activation = Callable[[Tensor], Tensor]


def _softmax(numbers: Tensor) -> Tensor:
    return numbers.softmax(dim=1)


def _same(numbers: Tensor) -> Tensor:
    return numbers


# The ends of the names of torch's functions, as sentence-transformers writes them. Numbers are (texts, labels).
_NAMED: dict[str, Activation] = {
    "Identity": _same,
    "Sigmoid": torch.sigmoid,
    "Softmax": _softmax,
    "Tanh": torch.tanh,
}


def pair_activation(source: Source, config: Mapping[str, Any], *, labels: int) -> Activation:
    """Return what makes the score of a pair, as sentence-transformers' `CrossEncoder` chooses it.

    Its own file has the first word, then the model's configuration, under a new name or an old one; without one it is a
    sigmoid where there is one label. Raises `LoadFailed` for a function of torch that is not known here.
    """
    file = source.folder / "config_sentence_transformers.json"
    said = gate.read_json(file, source.name) if file.is_file() else {}
    inner = config.get("sentence_transformers")
    named = (
        said.get("activation_fn"),
        inner.get("activation_fn") if isinstance(inner, dict) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    name = next((each for each in named if isinstance(each, str)), "")
    if not name.startswith("torch."):  # code of others is never run
        return torch.sigmoid if labels == 1 else _same
    kind = name.rpartition(".")[2]
    if kind not in _NAMED:
        raise LoadFailed(f"the model '{source.name}' makes scores with '{kind[:60]}', which is not known here")
    return _NAMED[kind]


def class_activation(config: Mapping[str, Any], *, labels: int) -> Activation:
    """Return what makes probabilities of labels: they exclude each other, unless the configuration says otherwise."""
    kind = config.get("problem_type")
    if kind == "regression":
        return _same
    return torch.sigmoid if labels == 1 or kind == "multi_label_classification" else _softmax
