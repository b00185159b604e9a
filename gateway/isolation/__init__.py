"""Any engine in a process of its own: `IsolatedEngine` is an `Engine` that starts, watches and replaces it."""

from gateway.isolation.client import ConnectionLost, RemoteEngine
from gateway.isolation.isolated import IsolatedEngine
from gateway.isolation.launch import RestartPolicy, scrubbed_environment
from gateway.isolation.private_folder import PrivateFolder, sweep
from gateway.isolation.process import EngineProcess, ProcessSpec, Starter

__all__ = [
    "ConnectionLost",
    "EngineProcess",
    "IsolatedEngine",
    "PrivateFolder",
    "ProcessSpec",
    "RemoteEngine",
    "RestartPolicy",
    "Starter",
    "scrubbed_environment",
    "sweep",
]
