"""Load a model that makes vectors, with its tokenizer and what stands behind it."""

import sys
from typing import NamedTuple

from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from gateway.engine import LoadFailed
from gateway_hf.embedding.encoder import Encoder
from gateway_hf.embedding.opening import TextModel, find_site, open_model
from gateway_hf.embedding.recipe import Dense, Recipe, read_recipe
from gateway_hf.embedding.texts import TextReader
from gateway_hf.loading import checks as gate
from gateway_hf.loading import pretrained
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings
from gateway_hf.text.codec import backend

# The pooler of BERT and its like is trained for another task, and no vector is made with it.
_ENCODER = pretrained.ModelKind(AutoModel, MODEL_MAPPING_NAMES, ("pooler.",))
# What follows a Dense layer, by the end of its name as sentence-transformers writes it.
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "": nn.Identity,
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "Sigmoid": nn.Sigmoid,
}


class LoadedEncoder(NamedTuple):
    """A model that makes vectors of `size` numbers; `similarity` names what compares two of them."""

    opened: TextModel
    encoder: Encoder
    reader: TextReader
    size: int
    similarity: str


def load(settings: Settings) -> LoadedEncoder:
    """Load the model that the settings name; raise `LoadFailed`, in one line, where that can never work."""
    site = find_site(settings)
    pretrained.check_type(site.source, _ENCODER)
    recipe = read_recipe(site.source, causal=is_causal(site.source))
    opened = open_model(site, _ENCODER, settings)
    opened = opened._replace(window=min(opened.window, recipe.max_tokens or sys.maxsize))
    width = int(opened.model.config.get_text_config().hidden_size)
    head, size = _read_head(recipe, site.source, len(recipe.poolings) * width)
    return LoadedEncoder(
        opened,
        Encoder(opened.model, head.to(site.device), recipe, opened.padding),
        TextReader(backend(opened.tokenizer), recipe, vocabulary=opened.vocabulary, window=opened.window),
        size,
        recipe.similarity,
    )


def is_causal(source: Source) -> bool:
    """Tell whether a folder's model is one that generates."""
    config = gate.read_json(source.folder / "config.json", source.name)
    named = config.get("architectures")
    known = config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return known and isinstance(named, list) and any(str(each).endswith("ForCausalLM") for each in named)


def _read_head(recipe: Recipe, source: Source, size: int) -> tuple[nn.Module, int]:
    """Return the layers behind the pooling, and how many numbers they make; raise `LoadFailed` for wrong ones."""
    layers: list[nn.Module] = []
    for dense in recipe.dense:
        layer = _read_dense(dense, source, size)
        size = layer.out_features
        kind = dense.activation.rpartition(".")[2]
        if kind not in _ACTIVATIONS:
            raise LoadFailed(f"the model '{source.name}' has a layer with '{kind[:60]}', which is not known here")
        layers += [layer, _ACTIVATIONS[kind]()]
    return nn.Sequential(*layers).eval(), size


def _read_dense(dense: Dense, source: Source, size: int) -> nn.Linear:
    file = dense.folder / "model.safetensors"
    if not file.is_file():
        raise LoadFailed(f"the layer '{dense.folder.name}' of the model '{source.name}' has no model.safetensors")
    try:
        weights = {name.rpartition(".")[2]: weight.float() for name, weight in load_file(file).items()}
        rows, columns = weights["weight"].shape
        layer = nn.Linear(columns, rows, bias="bias" in weights)
        layer.load_state_dict(weights)
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise LoadFailed(f"the layer '{dense.folder.name}' of the model '{source.name}' cannot be read") from error
    if columns != size:
        raise LoadFailed(f"the layer '{dense.folder.name}' of the model '{source.name}' takes {columns} numbers")
    return layer
