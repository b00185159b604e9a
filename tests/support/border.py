"""Engines across the process border: one in a real process of its own, or served at a socket of the same loop."""

import os
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from gateway.engine import Completion, Engine, GenerateRequest, Sampling, load
from gateway.isolation import IsolatedEngine, ProcessSpec, RemoteEngine, RestartPolicy, scrubbed_environment
from gateway.isolation.server import EngineServer
from gateway.testing.script import Script


def isolated(plugin: str = "scripted", policy: RestartPolicy | None = None, **settings: object) -> IsolatedEngine:
    """Make an engine for a process of its own, not entered yet."""
    own = msgspec.convert(settings, load(plugin).settings)
    return IsolatedEngine(
        spec(plugin, scrubbed_environment(os.environ, is_offline=True), policy, msgspec.msgpack.encode(own))
    )


def spec(
    plugin: str, environment: dict[str, str], policy: RestartPolicy | None = None, settings: bytes = b"\x80"
) -> ProcessSpec:
    """Write the spec of an engine's process."""
    return ProcessSpec(
        name=plugin, plugin=plugin, settings=settings, environment=environment, policy=policy or RestartPolicy()
    )


def scripted(number: int = 0, seconds: float | None = None, **script: object) -> GenerateRequest:
    """Ask the scripted engine to follow a script; equal numbers and scripts are equal prompts."""
    text = msgspec.json.encode({"script": Script(**script)}).decode()
    sampling = Sampling(seed=number)
    return GenerateRequest(
        id=f"r{number}", model="scripted", prompt=Completion(text), sampling=sampling, timeout=seconds
    )


@asynccontextmanager
async def served(engine: Engine | None, beat: float = 60.0):
    """Serve an engine at a socket; yield the server and the socket's path."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "engine"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            server = EngineServer(beat)
            await server.listen(listener.dup())
        if engine is not None:
            server.open(engine)
        try:
            yield server, path
        finally:
            await server.close()


@asynccontextmanager
async def across(engine: Engine):
    """Yield the engine as it is seen from the other side of a socket."""
    async with served(engine) as (_, path), RemoteEngine(path) as remote:
        yield remote
