"""Norms by what they do: how one divides, and by what it multiplies, is found out by trying it."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gateway_hf.compute.kernels import NormKind, NormStruct

# For a norm that does not say what it adds to the square.
_USUAL = (1e-5, 1e-6)
_EPS = ("variance_epsilon", "eps", "epsilon")
_EXACT = 1e-4


class Norm(NamedTuple):
    """A norm over the last dimension, float32: `weight` and `bias` have the shape that it was found with.

    `reach` `[size]` is how far what it made was seen to go, number by number.
    """

    kind: NormKind
    eps: float
    weight: Tensor
    bias: Tensor | None
    reach: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Norm `[..., size]`."""
        centered = x - x.mean(-1, keepdim=True) if self.kind is NormKind.CENTERED else x
        normed = centered * (centered.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight
        return normed if self.bias is None else normed + self.bias

    def ordered(self, order: Tensor) -> "Norm":
        """Norm numbers that lie in another order; `order` are their places in a head `[size]`."""
        size = len(order)
        moved = [
            None if each is None else each.view(-1, size)[:, order].reshape(each.shape)
            for each in (self.weight, self.bias)
        ]
        weight, bias = moved
        return self if weight is None else Norm(self.kind, self.eps, weight, bias)

    def divided(self, factors: Tensor | None) -> "Norm":
        """Make what is divided by factors `[size]`, if there are any."""
        if factors is None:
            return self
        bias = None if self.bias is None else self.bias / factors
        return Norm(self.kind, self.eps, self.weight / factors, bias)

    def struct(self) -> NormStruct:
        """Return what the kernels read; the tensors must be kept."""
        bias = None if self.bias is None else self.bias.data_ptr()
        return NormStruct(self.weight.data_ptr(), bias, self.eps, self.kind)


@torch.inference_mode()
def norm_of(module: nn.Module, shape: tuple[int, ...]) -> Norm | None:
    """Find the norm that a module computes of `[rows, *shape]`; none where it computes something else."""
    size = shape[-1]
    if size % 2:
        return None
    exact = copy.deepcopy(module).float()
    # Its mean is 0 and the mean of its squares is 1, so that both kinds give the same.
    signs = torch.ones(size).index_fill_(0, torch.arange(0, size, 2), -1.0)
    up, down = (exact(each.expand(1, *shape).contiguous())[0].float() for each in (signs, -signs))
    weight, bias = (up - down) / 2 * signs, (up + down) / 2
    draw = torch.Generator().manual_seed(0)
    probes = [torch.randn(4, *shape, generator=draw) * spread + spread for spread in (0.003, 0.05, 2.0)]
    made = [exact(probe.clone()).float() for probe in probes]
    named = [float(value) for name in _EPS if isinstance(value := getattr(module, name, None), float)]
    for kind in (NormKind.SQUARE, NormKind.CENTERED):
        for eps in (*named, *_USUAL):
            found = Norm(
                kind, eps, (weight * (1 + eps) ** 0.5).contiguous(), bias.contiguous() if bool(bias.any()) else None
            )
            if all(_near(found(probe), said) for probe, said in zip(probes, made, strict=True)):
                return found
    return None


def _near(found: Tensor, said: Tensor) -> bool:
    return found.shape == said.shape and bool((found - said).norm() <= _EXACT * said.norm())
