"""The engine's process is killed, stopped, stuck or orphaned: nothing is lost silently, and the next one answers."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from loguru import logger

from gateway.engine import (
    Completion,
    DeadlineExceeded,
    EngineError,
    EngineRestarted,
    Health,
    LoadFailed,
    Quarantined,
    Started,
    Unavailable,
    collect,
)
from gateway.isolation import EngineProcess, IsolatedEngine, RemoteEngine, RestartPolicy
from gateway.isolation.launch import scrubbed_environment
from gateway.testing.script import Fault
from tests.support.border import isolated, scripted, spec

WHOLE = "Once upon a time."
HASTY = RestartPolicy(hang=1.0, beat=0.05, delay=0.01, leave=2.0)
PATIENCE = 20.0
PANICS = """
from gateway.engine import Plugin
from gateway.testing.script import Panic
from gateway.testing.scripted import ScriptedEngine, Settings
class Panicking(ScriptedEngine):
    async def __aenter__(self):
        raise Panic("while it loads")
plugin = Plugin(Settings, Panicking)
"""
PLUGINS = {
    "exits": "import os\nos._exit(3)",
    "raises": "raise RuntimeError('broken on purpose')",
    "hangs": "import time\ntime.sleep(60)",
    "quits": "raise SystemExit(3)",
    "panics": PANICS,
    "prints": "print('a word of its own')\nfrom gateway.testing.scripted import plugin",
}
PARENT = """
import asyncio
from tests.support.border import isolated, spec, scripted
async def main():
    async with isolated() as engine:
        stream = engine.generate(scripted(delay=0.01, texts=("x",) * 3000))
        await anext(stream)
        print(engine.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def lines():
    """What is logged, meanwhile."""
    found = []
    sink = logger.add(lambda message: found.append(message.record), format="{message}")
    yield found
    logger.remove(sink)


@pytest.fixture
def faulty(tmp_path):
    """Make an engine of one of `PLUGINS`, which its process alone finds."""
    info = tmp_path / "faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    names = [f"{name} = faulty_{name}:plugin" for name in PLUGINS]
    (info / "entry_points.txt").write_text("\n".join(["[llm_gateway.engines]", *names]))
    for name, source in PLUGINS.items():
        (tmp_path / f"faulty_{name}.py").write_text(source)

    def make(name, policy):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return IsolatedEngine(spec(name, scrubbed_environment(environment, is_offline=True), policy))

    return make


def is_gone(pid):
    """Whether the process has ended; one that nobody has waited for yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


async def replaced(engine, pid):
    await until(lambda: engine.pid not in (None, pid) and engine._keeper.health is Health.READY)


async def test_ten_kills_under_load_lose_no_answer_silently():
    done, failed = [], []

    async def keep_asking(engine, caller):
        number = caller
        while True:
            number += 100
            try:
                done.append((await collect(engine.generate(scripted(number, delay=0.005)))).text)
            except (EngineRestarted, Quarantined) as error:  # the second, if it ran at two of the kills
                failed.append(error)
            await asyncio.sleep(0)

    async with isolated(policy=HASTY) as engine:
        callers = [asyncio.create_task(keep_asking(engine, caller)) for caller in range(16)]
        for _ in range(10):
            served, pid = len(done), engine.pid
            await until(lambda served=served: len(done) > served + 20)
            os.kill(pid, signal.SIGKILL)
            await replaced(engine, pid)
        for caller in callers:
            assert not caller.done(), caller.exception()
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        assert engine.restarts == {"exit": 10}
        assert set(done) == {WHOLE}
        # Eight run at most; the others wait for the next process.
        assert len(failed) <= 10 * 8
        assert (await collect(engine.generate(scripted()))).text == WHOLE


async def test_who_waited_is_answered_by_the_next_process_and_who_ran_is_told():
    async with isolated(policy=HASTY, places=1) as engine:
        running = engine.generate(scripted(1, delay=0.05, texts=("x",) * 1000))
        assert isinstance(await anext(running), Started)
        waiting = [asyncio.create_task(collect(engine.generate(scripted(number)))) for number in range(2, 8)]
        async with asyncio.timeout(PATIENCE):
            while (await engine.status()).waiting < len(waiting):  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.01)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineRestarted):
            await collect(running)
        async with asyncio.timeout(PATIENCE):
            assert {answer.text for answer in await asyncio.gather(*waiting)} == {WHOLE}


async def test_those_that_have_another_engine_are_told_at_once_that_the_process_died():
    async with isolated(policy=HASTY, places=1, load=0.2) as engine:
        running = engine.generate(scripted(1, delay=0.05, texts=("x",) * 1000))
        assert isinstance(await anext(running), Started)
        asked = (engine.generate(scripted(number), is_patient=False) for number in range(2, 8))
        waiting = [asyncio.create_task(collect(each)) for each in asked]
        async with asyncio.timeout(PATIENCE):
            while (await engine.status()).waiting < len(waiting):  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.01)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineRestarted):
            await collect(running)
        async with asyncio.timeout(PATIENCE):
            told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in told} == {Unavailable}  # none waited for the next process, and its answer


async def test_a_process_is_waited_for_by_a_kill_that_is_called_off():
    process = await EngineProcess.start(spec("scripted", scrubbed_environment(dict(os.environ), is_offline=True)))
    killing = asyncio.create_task(process.kill())
    await asyncio.sleep(0)
    killing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killing
    assert not process.is_running
    assert is_gone(process.pid)
    assert not Path(process.path).parent.exists()


async def test_a_stopped_process_is_replaced(lines):
    async with isolated(policy=HASTY) as engine:
        pid = engine.pid
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        await replaced(engine, pid)
        assert time.monotonic() - begun >= HASTY.hang * 0.9
        assert is_gone(pid)
        assert engine.restarts == {"hang": 1}
        assert (await collect(engine.generate(scripted()))).text == WHOLE
    assert [line["extra"]["reason"] for line in lines if line["extra"].get("event") == "engine_restart"] == ["hang"]


async def test_a_process_that_holds_its_loop_is_dumped_and_replaced(lines):
    async with isolated(policy=HASTY) as engine:
        pid = engine.pid
        with pytest.raises(EngineRestarted):
            await collect(engine.generate(scripted(fault=Fault.BLOCK, after=1, seconds=60.0)))
        await replaced(engine, pid)
    text = "\n".join(line["message"] for line in lines)
    assert "Fatal Python error: Aborted" in text
    assert "in strike" in text


async def test_an_engine_that_is_busy_and_gets_nowhere_is_replaced():
    async with isolated(policy=HASTY) as engine:
        with pytest.raises(EngineRestarted):
            await collect(engine.generate(scripted(fault=Fault.HANG, after=1)))
        assert engine.restarts["hang"] == 1 or engine._keeper.health is Health.STARTING


async def test_an_engine_that_is_slow_and_gets_on_is_left_alone():
    async with isolated(policy=HASTY) as engine:
        answer = await collect(engine.generate(scripted(delay=HASTY.hang * 0.6)))
        assert answer.text == WHOLE
        assert not engine.restarts


async def test_an_engine_that_computes_long_before_it_says_anything_is_left_alone():
    async with isolated(policy=HASTY) as engine:
        assert (await collect(engine.generate(scripted(prefill=HASTY.hang * 4)))).text == WHOLE
        assert not engine.restarts


async def test_an_engine_that_hangs_is_found_however_many_questions_it_answers():
    async with isolated(policy=HASTY) as engine, asyncio.timeout(PATIENCE):
        stuck = asyncio.create_task(collect(engine.generate(scripted(fault=Fault.HANG, after=1))))
        while not stuck.done():
            with contextlib.suppress(Unavailable):
                await engine.count_tokens("scripted", Completion("a b"))
            await asyncio.sleep(0.01)
        with pytest.raises(EngineRestarted):
            await stuck


async def test_an_idle_engine_is_left_alone():
    async with isolated(policy=HASTY) as engine:
        await asyncio.sleep(2 * HASTY.hang)
        assert not engine.restarts


def test_nothing_outlives_a_parent_that_was_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
        until_then = time.monotonic() + 1.0
        while not is_gone(child) and time.monotonic() < until_then:
            time.sleep(0.01)
        assert is_gone(child)


async def test_the_process_knows_no_secret_and_leaves_no_core():
    secrets = {"HF_TOKEN": "canary", "LLM_GATEWAY_HANDOVER": "canary", "AWS_SECRET_ACCESS_KEY": "canary"}
    environment = scrubbed_environment(
        {**os.environ, **secrets, "HTTPS_PROXY": "http://u:canary@proxy"}, is_offline=True
    )
    async with IsolatedEngine(spec("scripted", environment, HASTY)) as engine:
        own = Path("/proc", str(engine.pid))
        told = (own / "environ").read_bytes()
        assert b"canary" not in told + (own / "cmdline").read_bytes()
        assert b"HF_HUB_OFFLINE=1" in told.split(b"\0")
        assert (own / "oom_score_adj").read_text().strip() == "800"
        core = next(line for line in (own / "limits").read_text().splitlines() if line.startswith("Max core"))
        assert core.split()[4:6] == ["0", "0"]


async def test_nobody_finds_the_socket_of_a_running_engine(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with isolated():
        assert not any(path.is_socket() for path in tmp_path.rglob("*"))
    assert list(tmp_path.iterdir()) == []


async def test_closing_a_stream_frees_its_place_in_the_process():
    async with isolated(policy=HASTY, places=1) as engine:
        for _ in range(50):
            async with aclosing(engine.generate(scripted(delay=0.01, texts=("x",) * 3000))) as stream:
                async with asyncio.timeout(PATIENCE):
                    assert isinstance(await anext(stream), Started)
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            assert (await collect(engine.generate(scripted()))).text == WHOLE


async def test_a_request_that_ends_the_process_twice_is_not_run_again():
    async with isolated(policy=HASTY) as engine:
        poison = scripted(1, fault=Fault.EXIT, after=-1)
        with pytest.raises(EngineError, match="ended twice"):
            await collect(engine.generate(poison))
        await until(lambda: engine.restarts["exit"] == 2)
        with pytest.raises(EngineError, match="ended twice"):
            await collect(engine.generate(poison))
        assert (await collect(engine.generate(scripted(2)))).text == WHOLE
        assert engine.restarts == {"exit": 2}


@pytest.mark.parametrize("after", [-1, 1])
@pytest.mark.parametrize("fault", [Fault.BUG, Fault.PANIC, Fault.QUIT, Fault.INTERRUPT])
async def test_whatever_an_engine_raises_is_an_error_of_one_call_and_the_process_goes_on(fault, after):
    async with isolated(policy=HASTY, places=2) as engine, asyncio.timeout(PATIENCE):
        pid = engine.pid
        neighbour = asyncio.create_task(collect(engine.generate(scripted(1, delay=0.05))))
        for _ in range(3):
            with pytest.raises(EngineError, match="the log says why") as caught:
                await collect(engine.generate(scripted(2, fault=fault, after=after)))
            assert type(caught.value) is EngineError
        assert (await neighbour).text == WHOLE
        answers = await asyncio.gather(*(collect(engine.generate(scripted(number))) for number in range(3, 9)))
        assert {answer.text for answer in answers} == {WHOLE}
        assert (engine.pid, engine.restarts) == (pid, {})


async def test_neighbours_of_a_poisonous_request_are_answered():
    async with isolated(policy=HASTY, places=4) as engine:
        poison = scripted(1, fault=Fault.EXIT, after=-1, prefill=0.05)
        asked = [poison, *(scripted(number, prefill=0.2) for number in range(2, 8))]
        answers = await asyncio.gather(*(collect(engine.generate(one)) for one in asked), return_exceptions=True)
        assert type(answers[0]) is Quarantined
        # The second death may find one in the middle of its answer; it is told so, and may ask again.
        for one, answer in zip(asked[1:], answers[1:], strict=True):
            again = await collect(engine.generate(one)) if type(answer) is EngineRestarted else answer
            assert again.text == WHOLE


async def test_a_request_waits_for_the_next_process_no_longer_than_it_may():
    async with isolated(policy=HASTY, load=1.0) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: engine._keeper.health is Health.STARTING)
        assert (await engine.status()).health is Health.STARTING
        with pytest.raises(DeadlineExceeded):
            await collect(engine.generate(scripted(1, seconds=0.05)))
        assert (await collect(engine.generate(scripted(2, seconds=PATIENCE)))).text == WHOLE


async def test_a_process_that_dies_over_and_over_is_given_up(faulty, lines):
    engine = faulty("exits", RestartPolicy(delay=0.01, deaths=4))
    with pytest.raises(LoadFailed, match="died 4 times in a row; the last exited with status 3"):
        await engine.__aenter__()
    assert (await engine.status()).health is Health.FAILED
    with pytest.raises(Unavailable, match="died 4 times"):
        await collect(engine.generate(scripted()))
    assert engine.restarts == {"load": 3}
    told = [event for line in lines if (event := line["extra"]["event"]) != "engine_output"]
    assert told == ["engine_restart"] * 3  # the last is for who entered it to say
    await engine.__aexit__()


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("raises", "'raises'.*broken on purpose"),
        ("none", "no engine plugin"),
        ("quits", "'quits' cannot be imported: 3"),
        ("panics", "the log says why"),
    ],
)
async def test_a_plugin_that_cannot_be_used_is_not_tried_again(faulty, plugin, reason):
    engine = faulty(plugin, HASTY)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(LoadFailed, match=reason):
            await engine.__aenter__()
    assert not engine.restarts


async def test_a_load_that_cannot_succeed_says_why_and_is_not_tried_again():
    engine = isolated(policy=HASTY, load_failure="no such file")
    with pytest.raises(LoadFailed, match=r"^no such file$"):
        await engine.__aenter__()
    assert (await engine.status()).detail == "no such file"
    assert not engine.restarts


async def test_a_load_takes_no_longer_than_it_may(faulty):
    with pytest.raises(LoadFailed, match=r"did not load within 0\.5 s"):
        await faulty("hangs", RestartPolicy(load=0.5, leave=0.2)).__aenter__()


async def test_a_load_that_is_given_up_leaves_no_process():
    engine = isolated(policy=HASTY, load=60.0)
    entering = asyncio.create_task(engine.__aenter__())
    await until(lambda: engine.pid is not None)
    pid = engine.pid
    entering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await entering
    assert is_gone(pid)


async def test_what_a_plugin_prints_becomes_a_line_of_the_log(faulty, lines):
    async with faulty("prints", HASTY) as engine:
        assert (await collect(engine.generate(scripted()))).text == WHOLE
    printed = [line for line in lines if line["message"] == "a word of its own"]
    assert [line["extra"] for line in printed] == [{"event": "engine_output", "engine": "prints"}]


@pytest.mark.parametrize("where", ["start", "connect"])
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC, errno.EAGAIN, errno.ENOMEM, errno.ENOENT])
async def test_what_a_start_lacks_is_waited_for_and_is_no_death(code, where, monkeypatch, lines):
    short = True
    make, connect = EngineProcess.start, RemoteEngine.connect

    async def start(spec):
        if short and where == "start":
            raise OSError(code, os.strerror(code))
        return await make(spec)

    async def connect_or_not(remote):
        if short and where == "connect":
            raise OSError(code, os.strerror(code))
        await connect(remote)

    monkeypatch.setattr(RemoteEngine, "connect", connect_or_not)
    engine = IsolatedEngine(spec("scripted", scrubbed_environment(os.environ, is_offline=True), HASTY), start)
    entering = asyncio.create_task(engine.__aenter__())
    # More often than a process may die.
    await until(lambda: sum(line["extra"].get("event") == "engine_shortage" for line in lines) > HASTY.deaths + 1)
    assert not entering.done()
    status = await engine.status()
    assert (status.health, os.strerror(code) in status.detail) == (Health.STARTING, True)
    short = False
    async with await entering:
        assert (await collect(engine.generate(scripted()))).text == WHOLE
        assert (engine.restarts, engine.detail) == ({}, "")


async def test_leaving_ends_a_process_that_does_not_listen():
    engine = await isolated(policy=RestartPolicy(leave=0.3)).__aenter__()
    pid = engine.pid
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE):
        await engine.__aexit__()
    assert is_gone(pid)


async def test_an_engine_that_says_it_has_failed_is_replaced():
    engine = isolated(policy=RestartPolicy(beat=0.02, hang=1.0, delay=0.01, deaths=3), health="failed")
    async with engine:
        await until(lambda: engine._keeper.health is Health.FAILED)
        assert engine.restarts == {"failed": 2}
        assert (await engine.status()).detail.startswith("the engine's process died 3 times in a row")


def question(**script):
    """A question that follows a script, as `scripted` is a generation that does."""
    return scripted(**script).prompt


async def ended(*asked):
    """Wait for all; return what each came to, an answer or the kind of its error."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    return [type(answer) if isinstance(answer, BaseException) else answer for answer in answers]


async def test_a_question_that_hangs_the_engine_is_condemned_and_those_that_waited_are_answered():
    poison = question(prefill=0.01, fault=Fault.HANG, after=-1)
    async with isolated(policy=HASTY) as engine:
        asked = [
            engine.count_tokens("scripted", poison),
            engine.count_tokens("scripted", Completion("one two")),
            collect(engine.generate(scripted(1))),
        ]
        found = await ended(*asked)
        assert found[:2] == [Quarantined, 2]
        assert found[2].text == WHOLE
        await until(lambda: engine.restarts == {"hang": 1})
        with pytest.raises(Quarantined):
            await engine.count_tokens("scripted", poison)
        assert (await collect(engine.generate(scripted(1)))).text == WHOLE
        await until(lambda: engine.restarts == {"hang": 1})


async def test_a_question_that_holds_the_loop_is_not_repeated_and_condemned_when_it_comes_back():
    poison = question(fault=Fault.BLOCK, after=-1, seconds=60.0)
    async with isolated(policy=HASTY) as engine:
        begun = asyncio.create_task(engine.count_tokens("scripted", poison))
        await asyncio.sleep(0.1)
        neighbour = asyncio.create_task(engine.count_tokens("scripted", Completion("one two")))
        # The process had not even read the second when it stood still: the next one answers it.
        assert await ended(begun, neighbour) == [EngineRestarted, 2]
        await until(lambda: engine.restarts == {"hang": 1})
        found = await ended(
            engine.count_tokens("scripted", Completion("one two")), engine.count_tokens("scripted", poison)
        )
        assert found == [2, Quarantined]
        await until(lambda: engine.restarts == {"hang": 2})
        assert await engine.count_tokens("scripted", Completion("one two")) == 2
        with pytest.raises(Quarantined):
            await engine.count_tokens("scripted", poison)
        await until(lambda: engine.restarts == {"hang": 2})


async def test_a_question_that_ends_the_process_twice_is_not_asked_again():
    poison = question(fault=Fault.EXIT, after=-1)
    async with isolated(policy=HASTY) as engine:
        found = await ended(engine.tokenize("scripted", poison), collect(engine.generate(scripted(1, prefill=0.2))))
        assert found[0] is Quarantined
        assert found[1].text == WHOLE
        await until(lambda: engine.restarts == {"exit": 2})
