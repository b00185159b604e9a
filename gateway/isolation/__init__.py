"""Any engine in a process of its own: `Isolated` is an `Engine` that starts, watches and replaces it."""

from gateway.isolation.client import LineLost, RemoteEngine
from gateway.isolation.isolated import Isolated
from gateway.isolation.launch import Care, scrubbed
from gateway.isolation.process import Process, Recipe, Starter

__all__ = ["Care", "Isolated", "LineLost", "Process", "Recipe", "RemoteEngine", "Starter", "scrubbed"]
