"""How large a body may be, and how long it may take: an upload more than any other, but no pause in it."""

import asyncio

import pytest
from msgspec import structs

from gateway.api.http.incoming import IncomingBody
from gateway.api.http.limits import UploadLimits, to_limits
from gateway.api.http.problems import Problem
from gateway.config import Config, ServerSettings
from gateway.flow.budget import ByteBudget
from gateway.store import FileSettings


def test_only_uploads_have_limits_of_their_own():
    config = Config(server=ServerSettings(body_seconds=3), files=FileSettings(max_file_bytes=10_000, upload_seconds=99))
    assert to_limits("/v1/chat/completions", config) is config.server
    assert to_limits("/v1/files/file-1", config) is config.server
    limits = to_limits("/v1/files", config)
    assert limits == UploadLimits(limits.max_body_bytes, 99, 3)
    assert 10_000 < limits.max_body_bytes < 100_000


def body(pieces, limits, budget):
    async def receive():
        await asyncio.sleep(0.02)
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    return IncomingBody({"type": "http", "headers": [(b"content-length", b"900000")]}, receive, limits, budget)


async def test_an_upload_is_not_held_and_a_pause_in_it_ends_it():
    budget = ByteBudget(1_000_000)
    limits = UploadLimits(1_000_000, 60.0, 60.0)
    upload = body([b"a" * 100_000] * 3, limits, budget)
    for _ in range(3):
        await upload.receive()
    assert budget.held == 0
    upload._settings = structs.replace(limits, piece_seconds=0.05)
    with pytest.raises(Problem) as paused:
        await upload.receive()
    assert paused.value.code == "body_timeout"
