"""Find out which kind of server is behind the engine, which models it has, and what they take."""

import asyncio
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway.engine import Capability, EngineError, LoadFailed, ModelCard, UpstreamFailed
from gateway_openai.chunks import ListedModel, ListedModels
from gateway_openai.client import UpstreamClient
from gateway_openai.profiles import DOCUMENTED, GATEWAY, OPENAI, PROFILES, Profile, llama_server, vllm
from gateway_openai.settings import Settings
from gateway_openai.words import RemoteModel

# A path beside the version's, and a key that only this kind of server answers there with; the first that does counts.
_PROBES = (
    ("llama-server", "/props", "default_generation_settings"),
    ("sglang", "/get_model_info", "model_path"),
    ("tgi", "/info", "model_dtype"),
    ("ollama", "/api/version", "version"),
    ("lmstudio", "/api/v0/models", "data"),
    ("vllm", "/version", "version"),
)
_PROBE_SECONDS = 5.0
_LIST_SECONDS = 30.0
# Questions about tokens belong together: without ids there is no count.
_ASKED_IDS = frozenset({Capability.TOKEN_COUNT, Capability.TOKENIZER_INFO})


class OwnCapabilities(Struct, frozen=True):
    """What a gateway says of a model."""

    object: Annotated[str, Meta(pattern=r"^model\.capabilities\Z")]
    capabilities: tuple[str, ...]


async def discover(client: UpstreamClient, settings: Settings) -> list[RemoteModel]:
    """Return the models to serve; raise `LoadFailed` in a line where the server has to be asked, and does not answer.

    A server that is away, and whose models are configured, is taken for one that has what OpenAI documents.
    """
    try:
        listed = await _listed(client, settings)
    except EngineError as error:
        raise LoadFailed(error.message) from error
    own = {} if settings.server not in (None, GATEWAY.name) or _is_openai(client) else await _own(client, listed)
    profile = GATEWAY if own else await _profile(client, settings)
    names = {theirs: ours for ours, theirs in settings.models.items()}
    return [
        _model(each, names.get(each.id, each.id.rpartition("/")[2]), profile, own.get(each.id), settings)
        for each in listed
    ]


async def _listed(client: UpstreamClient, settings: Settings) -> list[ListedModel]:
    """List the models: those that are configured, with what the server says of them, else all of the server's.

    Where the kind of server is configured too, there is nothing to ask.
    """
    if settings.models and settings.server not in (None, GATEWAY.name):
        return [ListedModel(theirs) for theirs in settings.models.values()]
    try:
        listed = await _list(client)
    except UpstreamFailed:
        if not settings.models:
            raise
        listed = ()
    if not settings.models:
        return list(listed)
    known = {each.id: each for each in listed}
    return [known.get(theirs, ListedModel(theirs)) for theirs in settings.models.values()]


async def _list(client: UpstreamClient) -> tuple[ListedModel, ...]:
    status, body = await client.ask("GET", f"{client.url}/models", seconds=_LIST_SECONDS)
    if status != 200:  # noqa: PLR2004 - as HTTP numbers it
        raise UpstreamFailed(f"the server behind this engine lists no models, and answers with the status {status}")
    try:
        return msgspec.json.decode(body, type=ListedModels).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailed("the server behind this engine lists no models: configure `models`") from error


async def _own(client: UpstreamClient, listed: list[ListedModel]) -> dict[str, frozenset[Capability]]:
    """Ask a server of our own kind what each model can; none of another kind answers."""
    if not listed:
        return {}
    first = await _capabilities(client, listed[0].id)
    if first is None:
        return {}
    rest = await asyncio.gather(*(_capabilities(client, each.id) for each in listed[1:]))
    found = zip(listed, (first, *rest), strict=True)
    return {each.id: able for each, able in found if able is not None}


async def _capabilities(client: UpstreamClient, model: str) -> frozenset[Capability] | None:
    told = await _probe(client, f"{client.url}/models/{model}/capabilities")
    try:
        own = msgspec.convert(told, OwnCapabilities)
    except msgspec.ValidationError:
        return None
    known = {member.value for member in Capability if member is not Capability.STANDBY}  # which no body can ask for
    return frozenset(Capability(name) for name in own.capabilities if name in known)


async def _profile(client: UpstreamClient, settings: Settings) -> Profile:
    """Return the words of the configured kind of server, else of the kind that it shows itself to be."""
    if settings.server is not None:
        return PROFILES[settings.server]
    if _is_openai(client):
        return OPENAI
    root = root_of(client)
    answers = await asyncio.gather(*(_probe(client, root + path) for _, path, _ in _PROBES))
    for (name, _, key), told in zip(_PROBES, answers, strict=True):
        if key in told:
            if name == "llama-server":
                return llama_server(told)
            return vllm(str(told[key])) if name == "vllm" else PROFILES[name]
    return DOCUMENTED


async def _probe(client: UpstreamClient, url: str) -> dict[str, Any]:
    """Return the object that the server answers with; an empty one where there is none."""
    try:
        status, body = await client.ask("GET", url, seconds=_PROBE_SECONDS)
        told = msgspec.json.decode(body) if status == 200 else {}  # noqa: PLR2004 - as above
    except (EngineError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def root_of(client: UpstreamClient) -> str:
    """Return the address without its version, where servers have what OpenAI has no route for."""
    return client.url.removesuffix("/v1")


def _is_openai(client: UpstreamClient) -> bool:
    """Tell whether it is OpenAI's own service, which is not probed."""
    return (urlsplit(client.url).hostname or "").endswith(".openai.com")


def _model(
    model: ListedModel, name: str, profile: Profile, able: frozenset[Capability] | None, settings: Settings
) -> RemoteModel:
    context = model.context_window or model.max_model_len or settings.context_window
    takes = _able(profile, settings) if able is None else able & profile.takes
    card = ModelCard(
        name=name,
        aliases=() if model.id == name else (model.id,),
        context_window=context,
        capabilities=takes if Capability.TOKENIZE in takes else takes - _ASKED_IDS,
        places=settings.places,
        cache_tokens=settings.places * context,
        vocabulary=(model.meta and model.meta.n_vocab) or 0,
        device="remote",
        tools="server" if Capability.TOOLS in takes else "",
    )
    return RemoteModel(card, model.id, profile)


def _able(profile: Profile, settings: Settings) -> frozenset[Capability]:
    """Return what models can be asked for by their task; raise `LoadFailed` where the server has no words for it."""
    if settings.task == "generate":
        return profile.takes
    wanted = Capability.EMBEDDING if settings.task == "embed" else Capability.SCORE
    if wanted not in profile.reads:
        raise LoadFailed(f"a server of the kind '{profile.name or 'unknown'}' is not known to {settings.task} texts")
    return frozenset({wanted}) | (profile.takes & {Capability.TOKENIZE, Capability.TOKEN_COUNT})
