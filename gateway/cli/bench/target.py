"""Where requests go, and in which dialect; found by asking the server."""

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from gateway.cli.bench.plan import Api, Plan

PATHS: dict[Api, str] = {
    "native": "/v1/generate",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
}
_ABSENT = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}


class TargetError(Exception):
    """There is nothing to measure at the URL; the message says why."""


class BenchTarget(Struct, frozen=True, kw_only=True):
    """An endpoint. Where it is `exact` an answer can be made to have a given length; `usage` has to be asked for."""

    url: str
    api: Api
    model: str | None = None
    exact: bool = True
    usage: bool = True

    def body(self, prompt: str, tokens: int, temperature: float) -> bytes:
        """Encode a request for `tokens` tokens, streamed."""
        body: dict[str, object] = {"stream": True, "temperature": temperature}
        if self.model is not None:
            body["model"] = self.model
        if self.api == "native":
            body |= {"prompt": prompt, "max_new_tokens": tokens, "return_full_text": False}
        elif self.api == "chat":
            body |= {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        else:
            body |= {"prompt": prompt, "max_tokens": tokens}
        if self.exact:
            body |= {"ignore_eos": True, "min_new_tokens" if self.api == "native" else "min_tokens": tokens}
        if self.usage and self.api != "native":
            body["stream_options"] = {"include_usage": True}
        return msgspec.json.encode(body)


async def find(plan: Plan, session: aiohttp.ClientSession) -> BenchTarget:
    """Find the endpoint, the model and what can be asked for; raise `TargetError`."""
    server, api = _split(plan)
    try:
        model = plan.model or await _first_model(f"{server}/v1/models", session)
        api = api or await _first_api(server, model, session)
        return await _probe(BenchTarget(url=f"{server}{PATHS[api]}", api=api, model=model), session)
    except TimeoutError as error:
        raise TargetError(f"{plan.url} does not answer") from error
    except aiohttp.ClientError as error:
        raise TargetError(f"cannot reach {plan.url}: {error}") from error


def _split(plan: Plan) -> tuple[str, Api | None]:
    """Split the URL into the server's own and the dialect, where its path is one's."""
    url = plan.url.rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise TargetError(f"{plan.url} is no http URL")
    named: Api | None = next((api for api, path in PATHS.items() if url.endswith(path)), None)
    if named is None:
        return url.removesuffix("/v1"), plan.api
    if plan.api not in (None, named):
        raise TargetError(f"{plan.url} is the path of --api {named}, not of {plan.api}")
    return url.removesuffix(PATHS[named]), named


async def _first_model(url: str, session: aiohttp.ClientSession) -> str | None:
    async with session.get(url) as answer:
        try:
            return str(msgspec.json.decode(await answer.read())["data"][0]["id"])
        except (msgspec.DecodeError, LookupError, TypeError):
            return None


async def _first_api(server: str, model: str | None, session: aiohttp.ClientSession) -> Api:
    """Find the first dialect that the server knows: what it knows it refuses for the missing prompt."""
    for api, path in PATHS.items():
        async with session.post(f"{server}{path}", json={"model": model} if model else {}) as answer:
            if answer.status not in _ABSENT:
                return api
    raise TargetError(f"{server} has none of {', '.join(PATHS.values())}")


async def _probe(target: BenchTarget, session: aiohttp.ClientSession) -> BenchTarget:
    """Ask for one token, with all that is wished for, then with less; a server may refuse what it does not know."""
    for wished in _lesser(target):
        async with session.post(wished.url, data=wished.body("one two three", 1, 0.0)) as answer:
            await answer.read()
            if answer.status not in _REFUSED:
                return wished
    return target


def _lesser(target: BenchTarget) -> Sequence[BenchTarget]:
    bare = msgspec.structs.replace(target, exact=False)
    return (target, bare, msgspec.structs.replace(bare, usage=False))
