"""What the settings say reaches the child, and its key, its socket and its end are the engine's own affair."""

import asyncio
import logging
import os
import stat
from pathlib import Path

import psutil
import pytest

from gateway.engine import LoadFailed
from gateway_llamacpp import process
from gateway_llamacpp.process import LlamaServer, arguments_of
from gateway_llamacpp.settings import Settings
from tests.support.llama_child import LlamaChild

PATIENCE = 60.0


def words_of(**settings) -> list[str]:
    return arguments_of(Settings(**settings), Path("m.gguf"), 512, "/s.sock")


def told(*wanted: str, **settings) -> bool:
    """Whether these words stand side by side on the command line."""
    words = words_of(**settings)
    return any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words)))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"threads": 3}, ("--threads", "3")),
        ({"threads": 0}, ("--threads", str(len(os.sched_getaffinity(0))))),
        ({"places": 5}, ("--parallel", "5")),
        ({"places": 5}, ("--ctx-size", str(5 * 512))),
        ({"places": 5}, ("--threads-http", "13")),
        ({"step_tokens": 64}, ("--batch-size", "64")),
        ({"step_tokens": 64}, ("--ubatch-size", "64")),
        ({"step_tokens": 4096}, ("--ubatch-size", "512")),
        ({"cache_type_k": "q8_0"}, ("--cache-type-k", "q8_0")),
        ({"cache_type_v": "q4_0"}, ("--cache-type-v", "q4_0")),
        ({"gpu_layers": 7}, ("--gpu-layers", "7")),
        ({}, ("--gpu-layers", "0")),
        ({"flags": ("--flash-attn", "on")}, ("--flash-attn", "on")),
        ({}, ("--model", "m.gguf")),
        ({}, ("--host", "/s.sock")),
    ],
)
def test_each_setting_is_on_the_command_line(settings, wanted):
    assert told(*wanted, **settings)


@pytest.mark.parametrize(
    "flag", ["--api-key", "--port=1", "-c", "--parallel", "--host", "--api-prefix", "--ssl-key-file"]
)
def test_a_flag_that_is_the_engines_own_is_refused_by_its_name(flag):
    with pytest.raises(LoadFailed, match=flag.partition("=")[0]):
        words_of(flags=(flag, "x"))


async def started(child: LlamaChild, **settings) -> LlamaServer:
    return await LlamaServer.start(str(child.program), child.model, Settings(**settings), 512)


async def until(holds) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def test_the_socket_and_the_key_are_in_a_folder_for_this_user_alone(tmp_path):
    child = LlamaChild(tmp_path)
    server = await started(child)
    try:
        await until(Path(server.socket).exists)
        folder = Path(server.socket).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
        assert (folder / "key").read_text() == server.key
        assert len(server.key) == 64
        assert child.word("--host") == server.socket
        shown = psutil.Process(server.pid)
        assert server.key not in str(shown.cmdline()) + str(shown.environ())
    finally:
        await server.end()
    assert not folder.exists()
    await server.end()


async def test_two_children_have_two_keys(tmp_path):
    child = LlamaChild(tmp_path)
    servers = [await started(child), await started(child)]
    for server in servers:
        await server.end()
    assert servers[0].key != servers[1].key


async def test_a_key_that_the_child_tells_stands_in_no_log(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "gateway_llamacpp")
    server = await started(LlamaChild(tmp_path, words=["error: the key is KEY"], dies=1))
    async with asyncio.timeout(PATIENCE):
        assert await server.ended() == "exited with status 1"
    await server.end()
    assert "the key is" in caplog.text
    assert "the key is" in server.last_words()
    assert server.key not in caplog.text + server.last_words()


@pytest.mark.parametrize(("dies", "how"), [(3, "exited with status 3"), (-11, "was ended by SIGSEGV")])
async def test_how_a_child_ended_is_said(tmp_path, dies, how):
    server = await started(LlamaChild(tmp_path, dies=dies))
    async with asyncio.timeout(PATIENCE):
        assert await server.ended() == how
    await server.end()


async def test_the_last_words_are_those_of_an_error(tmp_path):
    words = ["loading", "0.01 E llama: out of memory", "bye", ""]
    server = await started(LlamaChild(tmp_path, words=words, dies=1))
    async with asyncio.timeout(PATIENCE):
        await server.ended()
    await server.end()
    assert server.last_words() == "0.01 E llama: out of memory"


async def test_a_line_without_end_is_dropped_and_the_next_one_heard(tmp_path):
    server = await started(LlamaChild(tmp_path, words=["x" * 300_000, "heard"], dies=1))
    async with asyncio.timeout(PATIENCE):
        await server.ended()
    await server.end()
    assert server.last_words() == "heard"


async def test_a_child_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LEAVE_SECONDS", 0.1)
    server = await started(LlamaChild(tmp_path, stubborn=True))
    await until(Path(server.socket).exists)
    async with asyncio.timeout(PATIENCE):
        await server.end()
        assert await server.ended() == "was ended by SIGKILL"


async def test_a_program_that_cannot_be_started_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    program = tmp_path / "llama-server"
    program.write_text("no program")
    program.chmod(0o755)
    with pytest.raises(LoadFailed, match="cannot be started") as failure:
        await LlamaServer.start(str(program), tmp_path / "m.gguf", Settings(), 512)
    assert "\n" not in failure.value.message
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_folder_too_deep_for_a_socket_is_said(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(LoadFailed, match="too long for a socket"):
        await started(LlamaChild(tmp_path))
    assert list(deep.iterdir()) == []
