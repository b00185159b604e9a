"""Weights are packed in turn, or taken as they were packed before."""

import pytest
import torch

from gateway_hf.compute.kernels import Format
from gateway_hf.compute.packed import NotPackable, Packed
from gateway_hf.compute.panels import Panels, WantedWeight


class Kept:
    """Weights of an earlier start."""

    change = "fused_layers"

    def __init__(self, made):
        self.made = made

    def weights(self):
        return iter(self.made)

    def discard(self):
        self.made = []


def wanted(columns, depth, asked):
    def make():
        asked.append((columns, depth))
        return torch.ones(columns, depth), None

    return WantedWeight(columns, depth, make)


def test_each_is_packed_in_turn(kernels):
    asked, panels = [], Panels(kernels)
    packed = [panels.pack(wanted(*shape, asked), Format.FLOAT32) for shape in ((16, 8), (3, 4))]
    assert asked == [(16, 8), (3, 4)]
    assert [(each.struct.columns, each.struct.depth) for each in packed] == asked
    assert panels.made == packed


def test_kept_ones_are_taken_and_nothing_is_joined(kernels):
    asked, made = [], [Packed(torch.ones(16, 8), None, Format.FLOAT32, kernels)]
    panels = Panels(kernels, Kept(made))
    assert panels.pack(wanted(16, 8, asked), Format.FLOAT32) is made[0]
    assert asked == []


@pytest.mark.parametrize("shape", [(16, 4), (8, 8)])
def test_those_of_other_layers_are_refused(kernels, shape):
    panels = Panels(kernels, Kept([Packed(torch.ones(16, 8), None, Format.FLOAT32, kernels)]))
    with pytest.raises(NotPackable, match="other layers"):
        panels.pack(wanted(*shape, []), Format.FLOAT32)


def test_so_is_one_more_than_were_kept(kernels):
    with pytest.raises(NotPackable, match="other layers"):
        Panels(kernels, Kept([])).pack(wanted(16, 8, []), Format.FLOAT32)
