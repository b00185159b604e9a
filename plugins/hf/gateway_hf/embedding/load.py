"""Load a model that makes vectors, with its tokenizer and what stands behind it."""

import sys
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from gateway.engine import Hold, LoadFailed
from gateway_hf.compute.placement import choose_device, choose_dtype, choose_threads
from gateway_hf.embedding.encoder import Encoder
from gateway_hf.embedding.recipe import Dense, Recipe, read_recipe
from gateway_hf.embedding.texts import TextReader
from gateway_hf.loading import checks as gate
from gateway_hf.loading import metadata as facts
from gateway_hf.loading import pretrained, sources
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings
from gateway_hf.text.codec import TextCodec, backend

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
    """A model that makes vectors of `size` numbers, and the facts for its card."""

    encoder: Encoder
    reader: TextReader
    text: TextCodec
    size: int
    window: int
    vocabulary: int
    name: str
    aliases: tuple[str, ...]
    fingerprint: str
    device: str
    dtype: str
    note: str
    hold: Hold | None


def load(settings: Settings) -> LoadedEncoder:
    """Load the model that the settings name; raise `LoadFailed`, in one line, where that can never work."""
    device = choose_device(settings)
    dtype = choose_dtype(settings, device)
    if device.type == "cpu":
        torch.set_num_threads(choose_threads(settings))
    source = sources.find(settings, dtype)
    pretrained.check_type(source, _ENCODER)
    recipe = read_recipe(source, causal=_is_causal(source))
    tokenizer = pretrained.read_tokenizer(source)
    model = pretrained.read_model(source, dtype, device, _ENCODER)
    window = min(_window(model, tokenizer), recipe.max_tokens or sys.maxsize, settings.context_window or sys.maxsize)
    vocabulary = int(model.config.get_text_config().vocab_size)
    head, size = _read_head(recipe, source, len(recipe.poolings) * int(model.config.get_text_config().hidden_size))
    spelled = str(dtype).removeprefix("torch.")
    padding = tokenizer.pad_token_id
    return LoadedEncoder(
        encoder=Encoder(model, head.to(device), recipe, padding if isinstance(padding, int) else 0),
        reader=TextReader(backend(tokenizer), recipe, vocabulary=vocabulary, window=window),
        text=TextCodec(tokenizer, vocabulary=vocabulary, context_window=window),
        size=size,
        window=window,
        vocabulary=vocabulary,
        name=settings.served_name or source.name,
        aliases=source.aliases if settings.served_name is None else (source.name, *source.aliases),
        fingerprint=facts.fingerprint(source.folder, gate.weight_files(source.folder, source.name), spelled),
        device=str(device),
        dtype=spelled,
        note=source.note,
        hold=source.hold,
    )


def _is_causal(source: Source) -> bool:
    config = gate.read_json(source.folder / "config.json", source.name)
    named = config.get("architectures")
    known = config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return known and isinstance(named, list) and any(str(each).endswith("ForCausalLM") for each in named)


def _window(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens the model reads; some count their places from behind the padding token's number."""
    window = facts.context_window(model, tokenizer)
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    return window if offset is None else window - offset - 1


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
