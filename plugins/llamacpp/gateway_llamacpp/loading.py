"""Load a model: start the child, wait for it, and ask it what it serves."""

import asyncio
import logging
from typing import NamedTuple

from msgspec import structs

from gateway.engine import LoadFailed, ModelCard, loading_step
from gateway_llamacpp.capabilities import TEMPLATE, ServerProps, card_of
from gateway_llamacpp.client import LlamaClient
from gateway_llamacpp.gguf_header import GgufHeader
from gateway_llamacpp.model_file import find_model, find_program
from gateway_llamacpp.places import PlaceTable
from gateway_llamacpp.process import LlamaServer
from gateway_llamacpp.prompts import PromptReader
from gateway_llamacpp.settings import Settings
from gateway_llamacpp.vocabulary import GgufVocabulary

_log = logging.getLogger("gateway_llamacpp")

_POLL_SECONDS = 0.05
_MOST_USUAL_CONTEXT = 8192
# What a processor says that lacks an instruction; AMX, as llama.cpp uses it, is refused on some that claim to have it.
_ILLEGAL = "SIGILL"


class LoadedServer(NamedTuple):
    """A model that its `llama-server` has loaded."""

    card: ModelCard
    server: LlamaServer
    client: LlamaClient
    vocabulary: GgufVocabulary
    prompts: PromptReader
    places: PlaceTable


async def load(settings: Settings) -> LoadedServer:
    """Start the child and wait until it serves; raise `LoadFailed` when it never will."""
    model, program = find_model(settings), find_program(settings)
    header = await asyncio.to_thread(GgufHeader, model.path)
    vocabulary = await asyncio.to_thread(GgufVocabulary, header)
    server = await LlamaServer.start(program, model.path, settings, _context(settings, header))
    client = LlamaClient(server.socket, server.key)
    try:
        with loading_step(_log, f"loading {model.name} in llama-server"):
            await _wait(server, client)
        props = await client.get("/props", ServerProps)
        prompts = PromptReader(client, vocabulary)
        if header.text(TEMPLATE):
            await prompts.try_thoughts()
            props = structs.replace(props, may_think=prompts.may_think)
        return LoadedServer(
            card_of(settings, model, header, vocabulary, props),
            server,
            client,
            vocabulary,
            prompts,
            PlaceTable(settings.places),
        )
    except BaseException:
        await unload(server, client)
        raise


async def unload(server: LlamaServer, client: LlamaClient) -> None:
    """End the child and every answer of it; again is no error."""
    await client.close()
    await server.end()


def _context(settings: Settings, header: GgufHeader) -> int:
    """Return the tokens of a place: as asked, or the model's own within the usual."""
    return settings.context_window or min(int(header.own_number("context_length") or 1 << 30), _MOST_USUAL_CONTEXT)


async def _wait(server: LlamaServer, client: LlamaClient) -> None:
    """Wait until the model is loaded; raise `LoadFailed` where the child ends before."""
    end = asyncio.create_task(server.ended())
    try:
        while not end.done():
            if await client.is_up():
                return
            await asyncio.wait({end}, timeout=_POLL_SECONDS)
    finally:
        end.cancel()
    how = end.result()
    hint = 'it is built for another processor, or uses AMX where that fails: set flags = ["--no-repack"]'
    said = hint if _ILLEGAL in how else server.last_words() or "it says nothing; set the log's level to DEBUG"
    raise LoadFailed(f"llama-server {how} while it loaded the model: {said}")
