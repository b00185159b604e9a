"""The rules of a generation, and the ways to its answer."""

from gateway.service.inference import Inference
from gateway.service.maker import ServiceEvent

__all__ = ["Inference", "ServiceEvent"]
