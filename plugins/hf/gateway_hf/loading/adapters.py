"""Read LoRA adapters as PEFT writes them; refuse in one line any that is no plain one, or not for the model."""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from gateway.engine import LoadFailed
from gateway_hf.compute.adapters import LowRank
from gateway_hf.compute.kernels import LARGEST_RANK
from gateway_hf.compute.rounded import plain_weight
from gateway_hf.loading import checks
from gateway_hf.loading.formats import MalformedFile, check_safetensors
from gateway_hf.loading.sources import Source
from gateway_hf.loading.sums import check_sums, sum_of
from gateway_hf.settings import Settings

_log = logging.getLogger("gateway_hf")

WEIGHTS = "adapter_model.safetensors"
_TEMPLATE = "chat_template.jinja"
_TENSOR = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# Settings that are read here, and those that say nothing of what is computed, or not where nothing is trained.
_READ = {"peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "bias"}
_READ |= {"rank_pattern", "alpha_pattern", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
_READ |= {"init_lora_weights"}
_NEUTRAL = {"lora_dropout", "auto_mapping", "fan_in_fan_out", "inference_mode", "revision", "peft_version"}
_NEUTRAL |= {
    "runtime_config",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
}
# Ways to begin that leave the model's own weights as they are. All others count on weights that were changed.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
# A name in a pattern: without what repeats or chooses, which a regex may take for ever to match.
_SIMPLE = re.compile(r"[\w.^\\-]+")
# What the names of quantized copies end with, which are what many adapters were made with.
_QUANTIZED = re.compile(r"(-unsloth)?-bnb-[48]bit$")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class AdapterFolder:
    """The folder of an adapter whose configuration is one that is supported; `name` is what it is served under."""

    name: str
    folder: Path
    config: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The name of the model that it was made for, as far as it says."""
        return str(self.config.get("base_model_name_or_path") or "")

    def refusal(self, why: str) -> LoadFailed:
        """Make the error that says in one line what is wrong."""
        return LoadFailed(f"the adapter '{self.name}' {' '.join(why.split())}")


@dataclass(frozen=True)
class LoadedAdapter:
    """What an adapter changes, by the names of linear layers; `root` is its folder's name."""

    name: str
    root: str
    changes: Mapping[str, LowRank]
    digest: str


def find_adapters(settings: Settings, source: Source) -> list[AdapterFolder]:
    """Look at the folders of adapters before their model is loaded; raise `LoadFailed`."""
    for name in settings.adapters.keys() & {settings.served_name, source.name, *source.aliases}:
        raise LoadFailed(f"the adapter '{name}' has the name of its model")
    return [_find(name, Path(folder).expanduser(), source) for name, folder in settings.adapters.items()]


def read_adapters(
    found: Iterable[AdapterFolder], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str
) -> tuple[LoadedAdapter, ...]:
    """Read adapters for the model of this name; raise `LoadFailed` for files that are damaged, or of another model."""
    for each in found:
        _check_template(each, tokenizer)
    return tuple(_read(each, model, name) for each in found)


def _read(found: AdapterFolder, model: PreTrainedModel, model_name: str) -> LoadedAdapter:
    file = found.folder / WEIGHTS
    try:
        check_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except (MalformedFile, OSError, SafetensorError) as error:
        why = (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
        raise found.refusal(f"has a damaged file '{WEIGHTS}': {why}") from error
    check_sums(found.folder, [WEIGHTS], found.name)
    pairs = _pair(found, tensors)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call] # so is the library
    changes = {}
    for layer, names in pairs.items():
        linear = _linear(model, layer)
        if linear is None or linear is head:
            what = "the last layer, which is not supported" if linear is head else f"no linear layer of '{model_name}'"
            raise found.refusal(f"changes '{layer}' ('{names[0]}' in {WEIGHTS}): it is {what}{_made_for(found)}")
        changes[layer] = _change(found, layer, {name: tensors[name] for name in names}, linear)
    _check_targets(found, model, changes.keys())
    written = f"{sum_of(file)}\0{sorted(found.config.items())!r}"
    return LoadedAdapter(found.name, found.folder.resolve().name, changes, hashlib.sha256(written.encode()).hexdigest())


def _check_template(found: AdapterFolder, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warn of a chat template beside an adapter that is not its model's: conversations are written by the latter."""
    file = found.folder / _TEMPLATE
    templates = tokenizer.chat_template
    known = templates.values() if isinstance(templates, dict) else [templates]
    if file.is_file() and file.read_text(errors="replace") not in known:
        _log.warning("the adapter '%s' has a chat template of its own, which is not used", found.name)


def _find(name: str, folder: Path, source: Source) -> AdapterFolder:
    if not folder.is_dir():
        raise LoadFailed(f"the adapter '{name}' has no folder '{folder.name}'")
    if not (folder / checks.ADAPTER).is_file():
        raise LoadFailed(f"the adapter '{name}' has no file '{checks.ADAPTER}' in the folder '{folder.name}'")
    found = AdapterFolder(name, folder, checks.read_json(folder / checks.ADAPTER, name))
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = "has its weights as a pickle only, which can run code: convert it to" if pickled else "has no file"
        raise found.refusal(f"{why} '{WEIGHTS}'")
    _check_config(found)
    _check_base(found, source)
    return found


def _check_config(found: AdapterFolder) -> None:
    """Raise `LoadFailed` for all but plain LoRA; a setting that is not known must say nothing."""
    config = found.config
    if config.get("peft_type") != "LORA":
        raise found.refusal(
            f"is of the type {config.get('peft_type')!r:.60} ({checks.ADAPTER}); only LORA is supported"
        )
    wrong = {
        "task_type": config.get("task_type") not in (None, "CAUSAL_LM"),
        "bias": config.get("bias", "none") != "none",
        "init_lora_weights": config.get("init_lora_weights") not in _BEGINNINGS,
    }
    wrong |= {key: bool(value) for key, value in config.items() if key not in _READ | _NEUTRAL}
    for key, is_wrong in wrong.items():
        if is_wrong:
            raise found.refusal(f"has {key[:60]} = {config[key]!r:.60} in {checks.ADAPTER}, which is not supported")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    ranks = [rank, *_table(found, "rank_pattern").values()]
    if any(type(each) is not int or not 0 < each <= LARGEST_RANK for each in ranks):
        raise found.refusal(f"has the rank {ranks!r:.60} in {checks.ADAPTER}: it is a number of 1 to {LARGEST_RANK}")
    if any(type(each) not in (int, float) for each in (alpha, *_table(found, "alpha_pattern").values())):
        raise found.refusal(f"has no number as lora_alpha in {checks.ADAPTER}")


def _check_base(found: AdapterFolder, source: Source) -> None:
    """Raise `LoadFailed` where both the adapter and the model have names of the Hub, and these differ."""
    named, known = found.base, [alias for alias in source.aliases if "/" in alias]
    if not known or named.count("/") != 1 or named.startswith(("/", ".", "~")):
        return
    wanted = _QUANTIZED.sub("", named.partition("/")[2].lower())
    if wanted not in {alias.partition("/")[2].lower() for alias in known}:
        raise found.refusal(
            f"is made for '{named[:120]}' (base_model_name_or_path in {checks.ADAPTER}), and the model is '{known[0]}'"
        )


def _pair(found: AdapterFolder, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Find the two tensors of each layer, by their names."""
    sides: dict[str, dict[str, str]] = {}
    for name in names:
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise found.refusal(f"has the tensor '{name[:120]}' in {WEIGHTS}, which is none of a plain LoRA")
        sides.setdefault(match["layer"], {})[match["side"]] = name
    if not sides:
        raise found.refusal(f"has no tensors in {WEIGHTS}")
    for own in sides.values():
        if len(own) == 1:
            ((side, name),) = own.items()
            raise found.refusal(
                f"lacks the tensor lora_{'B' if side == 'A' else 'A'} beside '{name[:120]}' in {WEIGHTS}"
            )
    return {layer: (own["A"], own["B"]) for layer, own in sides.items()}


def _linear(model: PreTrainedModel, layer: str) -> nn.Linear | Conv1D | None:
    try:
        module = model.get_submodule(layer)
    except AttributeError:
        return None
    return module if isinstance(module, nn.Linear | Conv1D) else None


def _change(found: AdapterFolder, layer: str, tensors: Mapping[str, Tensor], linear: nn.Linear | Conv1D) -> LowRank:
    """Check the two tensors of a layer and scale the second."""
    columns, depth = plain_weight(linear).shape
    rank = _of_layer(found, "rank_pattern", layer, found.config["r"])
    for (name, tensor), shape in zip(tensors.items(), ((rank, depth), (columns, rank)), strict=True):
        if tuple(tensor.shape) != shape:
            raise found.refusal(
                f"has the tensor '{name[:120]}' in {WEIGHTS} of the shape {list(tensor.shape)}, "
                f"and it has to be {list(shape)}{_made_for(found)}"
            )
        if tensor.dtype not in _DTYPES:
            raise found.refusal(f"has the tensor '{name[:120]}' in {WEIGHTS} in {tensor.dtype}, which is not supported")
        if not bool(tensor.isfinite().all()):
            raise found.refusal(f"has NaN or infinity in the tensor '{name[:120]}' in {WEIGHTS}")
    down, up = (tensor.float() for tensor in tensors.values())
    alpha = _of_layer(found, "alpha_pattern", layer, found.config["lora_alpha"])
    return LowRank(down, up * (alpha / (rank**0.5 if found.config.get("use_rslora") else rank)))


def _check_targets(found: AdapterFolder, model: PreTrainedModel, changed: Iterable[str]) -> None:
    """Raise `LoadFailed` where a target of the configuration is not changed, in all layers unless it names some."""
    targets = found.config.get("target_modules")
    if not isinstance(targets, list):
        return  # a regex, or all
    changed = set(changed)
    for target in targets:
        ends = f".{target}"
        own = {layer for layer in changed if f".{layer}".endswith(ends)}
        if not own:
            raise found.refusal(f"has no tensors of '{target!s:.60}' in {WEIGHTS}, a target of its {checks.ADAPTER}")
        if found.config.get("layers_to_transform") is not None or found.config.get("exclude_modules"):
            continue
        there = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
        if missing := {name for name in there - own if f".{name}".endswith(ends)}:
            raise found.refusal(f"lacks the tensors of '{min(missing)}' in {WEIGHTS}")


def _table(found: AdapterFolder, key: str) -> dict[str, Any]:
    table = found.config.get(key) or {}
    if not isinstance(table, dict):
        raise found.refusal(f"has no table as {key} in {checks.ADAPTER}")
    for pattern in table:
        try:
            if _SIMPLE.fullmatch(pattern):
                re.compile(pattern)
                continue
        except re.error:
            pass
        raise found.refusal(f"has the pattern {pattern!r:.60} in {key} ({checks.ADAPTER}), which is not supported")
    return table


def _of_layer(found: AdapterFolder, key: str, layer: str, usual: Any) -> Any:  # noqa: ANN401 - a checked number
    """Return what the first pattern that fits a layer says, as PEFT looks for it."""
    table = _table(found, key)
    return next((value for pattern, value in table.items() if re.match(rf"(.*\.)?({pattern})$", layer)), usual)


def _made_for(found: AdapterFolder) -> str:
    return f"; it was made for '{found.base[:120]}'" if found.base else ""
