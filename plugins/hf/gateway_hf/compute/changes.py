"""What a model's layers and weights are changed into for the kernels; a trial says whether it is right."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gateway_hf.compute.adapters import Adapters
from gateway_hf.compute.attention import Attention
from gateway_hf.compute.forward import Forward
from gateway_hf.compute.fused import FusedLayer
from gateway_hf.compute.kernels import FORMATS, Format
from gateway_hf.compute.matching import match_layer
from gateway_hf.compute.packed import Packed, PackedLinear
from gateway_hf.compute.panels import Panels, WantedWeight
from gateway_hf.compute.rounded import Rounded, plain_weight, round_to_bytes, weight_of
from gateway_hf.compute.tied import read_from_head, tied_tables
from gateway_hf.compute.trace import LayerTrace, trace_layers
from gateway_hf.compute.trial import Misfit


class FitWork(NamedTuple):
    """A model, and what it is to be changed with; `traces` say what its layers do with some tokens."""

    model: PreTrainedModel
    attention: Attention
    adapters: Adapters
    panels: Panels
    form: Format
    traces: list[LayerTrace]


Change = Callable[[FitWork], None]


def trace(model: PreTrainedModel, forward: Forward, attention: Attention) -> list[LayerTrace]:
    """Let each layer say what it does and what it asks of attention, by reading some tokens."""
    layers = _layers(model)
    return trace_layers(forward, layers or nn.ModuleList(), attention, model.config.get_text_config().vocab_size)


def batches(_: FitWork) -> None:
    """Change nothing."""


def fused_layers(work: FitWork) -> None:
    """Put fused layers in the places of the model's own, and pack the rest; raise `Misfit`."""
    model, form = work.model, work.form
    if (layers := _layers(model)) is None:
        raise Misfit("its layers are in no list")
    heads = work.attention.heads
    found = [match_layer(each, heads[index]) for index, each in enumerate(work.traces)]
    if work.adapters.names and any(each.experts for each in found):
        raise Misfit("adapters change no layers with experts")
    depths = {plain_weight(linear).shape[1] for pieces in found for linear in pieces.linears()}
    depths.update(*(each.experts.depths() for each in found if each.experts))
    if unfit := [depth for depth in depths if not Packed.fits(depth, form)]:
        raise Misfit(f"a depth of {unfit[0]} cannot be packed")
    work.traces.clear()
    work.attention.sinks.clear()  # the model's own, of which there are copies
    found.reverse()
    for index in range(len(layers)):
        # What was packed is freed before the next layer is: there may be no room for all of it twice.
        fused = FusedLayer(found.pop(), heads[index], work.attention, work.panels, form)
        fused.adapt(work.adapters)
        layers[index] = fused
    # From here on the model's own code computes in float32 what is left to it: positions, and the last norm.
    model.get_input_embeddings().register_forward_hook(lambda _module, _ids, states: states.float())
    packed_weights(work)
    for module in model.modules():
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.float()


def packed_weights(work: FitWork) -> None:
    """Pack every linear layer, in the model's own format where its depth does not fit; raise `Misfit`."""
    model, form, kernels = work.model, work.form, work.panels.kernels
    packed, dtype, tables = 0, model.dtype, tied_tables(model)
    last = model.get_output_embeddings()  # type: ignore[no-untyped-call] # so is the library
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        columns, depth = plain_weight(module).shape
        fitting = form if Packed.fits(depth, form) else FORMATS[dtype]
        if not Packed.fits(depth, fitting):
            continue
        packed += fitting is form
        head = module is last
        make = partial(_in_whole_bytes if head and fitting is Format.INT8 else weight_of, module)
        whole = work.panels.pack(WantedWeight(columns, depth, make), fitting)
        # The head's logits are wanted in float32, and have it already.
        replaced = PackedLinear(whole, kernels, torch.float32 if head else dtype)
        if isinstance(module, nn.Linear) and (tied := tables.get(module.weight.data_ptr())) is not None:
            read_from_head(tied, whole)
        work.adapters.move(module, replaced, kernels)
        model.set_submodule(name, replaced)
    if not packed:
        raise Misfit("none of its layers can be packed")
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a view into a file's mapping would keep all of it in memory


def _in_whole_bytes(linear: nn.Module) -> tuple[Rounded, Tensor | None]:
    """Return the weight and bias of the head, whose rounding counts for more than that of any layer."""
    weight, bias = weight_of(linear)
    return weight if isinstance(weight, Rounded) else round_to_bytes(weight), bias


def _layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the list of decoder layers: the first that has as many as the configuration says."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (each for each in model.base_model.modules() if isinstance(each, nn.ModuleList))
    return next((each for each in lists if len(each) == count), None)
