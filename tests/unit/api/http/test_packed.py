import gzip

import httpx
import pytest
from litestar import Litestar, Request, get

from gateway.api.http.packed import PackedFile

CONTENT = b"text " * 100


@pytest.fixture
def reads():
    return []


@pytest.fixture
def client(reads):
    def read():
        reads.append(1)
        return CONTENT

    file = PackedFile("text/plain", read, {"cache-control": "no-cache"})

    @get("/")
    async def show(request: Request) -> object:
        return await file.answer(request)

    transport = httpx.ASGITransport(Litestar([show], openapi_config=None))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.mark.parametrize("accepted", ["identity", "gzip", "deflate, gzip;q=0.5"])
async def test_a_file_is_the_same_compressed_and_as_it_is(client, accepted):
    answer = await client.get("/", headers={"accept-encoding": accepted})
    assert answer.content == CONTENT
    assert ("content-encoding" in answer.headers) == ("gzip" in accepted)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["cache-control"] == "no-cache"


async def test_a_file_is_read_once_and_not_before_it_is_asked_for(client, reads):
    assert reads == []
    first = await client.get("/", headers={"accept-encoding": "gzip"})
    await client.get("/", headers={"accept-encoding": "identity"})
    assert int(first.headers["content-length"]) < len(gzip.compress(CONTENT)) + 20
    assert reads == [1]
