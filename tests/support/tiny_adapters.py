"""Adapters as PEFT writes them, random and strong, made on the spot; and the models that they amount to."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.adapters import LowRank

# What PEFT writes for a plain LoRA, but for what a test chooses.
_CONFIG = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "peft_version": "0.20.0",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_STRENGTH = 0.15


def linears(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Module]:
    """Find the linear layers whose names end with one of the targets."""
    ends = tuple(f".{target}" for target in targets)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and f".{name}".endswith(ends)
    }


def sizes(linear: nn.Module) -> tuple[int, int]:
    """Return the columns and the depth of a linear layer."""
    shape = linear.weight.shape
    return (shape[1], shape[0]) if isinstance(linear, Conv1D) else (shape[0], shape[1])


def draw_changes(model: nn.Module, seed: int, rank: int, targets: tuple[str, ...]) -> dict[str, LowRank]:
    """Draw what an adapter changes of some linear layers of a model."""
    draw = torch.Generator().manual_seed(seed)
    return {
        layer: LowRank(0.2 * torch.randn(rank, depth, generator=draw), 0.2 * torch.randn(columns, rank, generator=draw))
        for layer, (columns, depth) in {name: sizes(own) for name, own in linears(model, targets).items()}.items()
    }


def make_adapter(base: Path, folder: Path, *, seed: int = 1, targets: tuple[str, ...] = ALL, **config: object) -> Path:
    """Write an adapter for the model in `base` into `folder`, and return it."""
    model = AutoModelForCausalLM.from_pretrained(base)
    written = _CONFIG | {"base_model_name_or_path": str(base), "target_modules": list(targets)} | config
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, linear in linears(model, targets).items():
        columns, depth = sizes(linear)
        rank = next((r for key, r in written["rank_pattern"].items() if name.endswith(key)), written["r"])
        for side, shape in (("A", (rank, depth)), ("B", (columns, rank))):
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = _STRENGTH * torch.randn(shape, generator=draw)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


@torch.no_grad()
def merge(base: Path, adapter: Path) -> PreTrainedModel:
    """Return the model with an adapter added to its weights, in float32, by PEFT's definition of LoRA."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    for name in {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in tensors}:
        down, up = (tensors[f"base_model.model.{name}.lora_{side}.weight"].float() for side in "AB")
        alpha = next((a for key, a in config["alpha_pattern"].items() if name.endswith(key)), config["lora_alpha"])
        rank = down.shape[0]
        change = up @ down * (alpha / (rank**0.5 if config["use_rslora"] else rank))
        linear = model.get_submodule(name)
        linear.weight += change.T if isinstance(linear, Conv1D) else change
    return model


def change_config(adapter: Path, **entries: object) -> None:
    """Change entries of an adapter's configuration."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def change_tensors(adapter: Path, change: object) -> None:
    """Let `change` work on the tensors of an adapter, by their names."""
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
