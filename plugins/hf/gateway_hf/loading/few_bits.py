"""Read a model with its weights in few bits, where it is to be computed so."""

import logging

import torch
from transformers import PreTrainedModel

from gateway.engine import LoadFailed, loading_step
from gateway_hf.compute.rounded import round_weights
from gateway_hf.loading import pretrained
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings

_log = logging.getLogger("gateway_hf")


def read_weights(
    settings: Settings, source: Source, dtype: torch.dtype, device: torch.device, *, bare: bool = False
) -> PreTrainedModel:
    """Read the model, with what its weights are in few bits where it is to be computed so; raise `LoadFailed`.

    One that is `bare` has its weights as they are: packed ones are at hand.
    """
    model = pretrained.read_model(source, dtype, device)
    if bare:
        return model
    if settings.quantize == "int4":
        with loading_step(_log, "rounding the weights to 4 bits"):
            round_weights(model, torch.get_num_threads())
    if settings.quantize == "gguf":
        if not source.content:
            raise LoadFailed("quantize = gguf is for GGUF files; use int8 or int4")
        from gateway_hf.loading.blocks import attach_blocks  # noqa: PLC0415 - only these need the library that reads GGUF

        attach_blocks(model, source.folder, source.name)
    return model
