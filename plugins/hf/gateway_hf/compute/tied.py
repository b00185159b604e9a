"""An embedding that is tied to the head is read from the head's panels: the table need not be kept beside them."""

from collections import Counter

import torch
from torch import Tensor, nn

from gateway_hf.compute.kernels import FORMATS, Format
from gateway_hf.compute.packed import Packed

# So many tokens are looked up in the panels before the table is given up, the first and the last among them.
_PROBES = 64
# The embedding and the head.
_BOTH = 2


def tied_tables(model: nn.Module) -> dict[int, nn.Embedding]:
    """Find embeddings whose tables one other module has as well, and no third: by the addresses of the tables."""
    held = Counter(weight.data_ptr() for module in model.modules() for weight in {*module.parameters(recurse=False)})
    found = (module for module in model.modules() if isinstance(module, nn.Embedding))
    return {at: each for each in found if (at := each.weight.data_ptr()) and held[at] == _BOTH}


@torch.inference_mode()
def read_from_head(embedding: nn.Embedding, head: Packed) -> bool:
    """Let an embedding look tokens up in the packed head that it is tied to, and give its table up.

    Its own code still runs, over a table of the tokens that it is asked for, so that what else it does is done.
    Nothing changes, and the answer is no, where the head is rounded or the embedding then makes other numbers.
    """
    if not head.is_exact or (head.struct.columns, head.struct.depth) != embedding.weight.shape:
        return False
    if FORMATS.get(embedding.weight.dtype) is not Format(head.struct.format):
        return False  # the panels have other numbers
    table, padding = embedding.weight.data, embedding.padding_idx
    ids = torch.linspace(0, len(table) - 1, _PROBES).round().long()
    said = embedding(ids)

    def look_up(_: nn.Module, given: tuple[Tensor]) -> Tensor:
        (ids,) = given
        embedding.weight.data = head.lines(ids.reshape(-1))
        return torch.arange(ids.numel()).view(ids.shape)

    def give_up(_: nn.Module, __: tuple[Tensor], states: Tensor) -> Tensor:
        embedding.weight.data = table[:0]
        return states

    embedding.padding_idx = None  # training alone asks for it, and it has to be a line of the table
    hooks = (embedding.register_forward_pre_hook(look_up), embedding.register_forward_hook(give_up, prepend=True))
    if torch.equal(embedding(ids), said):
        table = table.new_empty(0, table.shape[1])
        embedding.weight.data = table
        return True
    for hook in hooks:
        hook.remove()
    embedding.weight.data, embedding.padding_idx = table, padding
    return False
