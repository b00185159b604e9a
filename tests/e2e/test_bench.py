"""`llm-gateway bench` as a program: against the real service, and against a server that speaks OpenAI's dialect."""

import asyncio
import json
import os
import signal
import sys

import pytest

from tests.support.service import Service
from tests.support.upstream import Upstream

pytestmark = pytest.mark.slow

PLACES = json.dumps({"places": 32, "delay": 0.002})


@pytest.fixture(scope="module")
def gateway():
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=PLACES) as running:
        yield running


async def start(url, *arguments):
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "gateway", "bench", "--url", url, *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=os.environ | {"COLUMNS": "80"})


async def bench(url, *arguments):
    """Run to the end; return the exit code and both outputs."""
    process = await start(url, *arguments)
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def figures(url, folder, *arguments):
    """Run to the end; return the JSON."""
    code, _, err = await bench(url, *arguments, "--json", str(folder / "figures.json"))
    assert (code, err) == (0, "")
    return json.loads((folder / "figures.json").read_text())


async def test_the_gateway_is_swept_and_its_own_counts_agree(gateway, tmp_path):
    tokens, requests = "llm_gateway_tokens_generated_total", "llm_gateway_requests_total"
    before = gateway.metric(tokens), gateway.metric(requests, endpoint="/v1/generate")
    found = await figures(
        gateway.url, tmp_path, "--concurrency", "1,8", "--output-tokens", "16", "--prompt-words", "20"
    )
    one, eight = found["levels"]
    assert (one["requests"], eight["requests"]) == (4, 32)
    assert (one["output_tokens"], eight["output_tokens"]) == (4 * 16, 32 * 16)
    assert (one["prompt_tokens"], eight["peak"], eight["errors"], eight["inexact"]) == (4 * 20, 8, {}, 0)
    assert found["target"]["api"] == "native"
    # A warm-up request a level, one that finds out what the server can, and an empty one that finds the dialect.
    assert gateway.metric(tokens) - before[0] == (4 + 32 + 2) * 16 + 1
    assert gateway.metric(requests, endpoint="/v1/generate") - before[1] == 4 + 32 + 2 + 1 + 1


async def test_latencies_add_up(gateway, tmp_path):
    (level,) = (await figures(gateway.url, tmp_path, "--output-tokens", "32", "--requests", "6"))["levels"]
    whole = level["ttft"]["mean"] + 31 * level["tpot"]["mean"]
    assert whole == pytest.approx(level["e2e"]["mean"], rel=0.01)
    assert level["tpot"]["mean"] >= 0.002
    # One client: a rate is what an answer takes, and never more.
    assert 32 / level["e2e"]["mean"] / 20 < level["tokens_per_second"] <= 32 / level["e2e"]["mean"] * 1.001
    assert 0 < level["client_cpu"] < level["seconds"]


async def test_a_rate_is_kept_while_answers_take_their_time(tmp_path):
    slow = json.dumps({"places": 32, "delay": 0.05})
    with Service(LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=slow) as service:
        arguments = "--rate 20 --arrivals constant --requests 20 --output-tokens 20 --warmup 0"
        (level,) = (await figures(service.url, tmp_path, *arguments.split()))["levels"]
    # An answer takes a second: in that time all others arrive.
    assert level["peak"] >= 15
    assert level["requests"] == 20


async def test_waiting_for_a_place_counts_from_the_arrival(tmp_path):
    one = json.dumps({"places": 1, "delay": 0.01})
    with Service(
        LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS=one, LLM_GATEWAY__ADMISSION__WAITERS_PER_PLACE="20"
    ) as service:
        arguments = "--rate 100 --arrivals constant --requests 20 --output-tokens 10 --warmup 0"
        (level,) = (await figures(service.url, tmp_path, *arguments.split()))["levels"]
    # Each answer takes a tenth of a second and they are served one by one: the last waits for two seconds.
    assert level["ttft"]["p99"] > 1.5
    assert level["e2e"]["p50"] > 0.7


async def test_openais_dialects_are_measured_and_tokens_come_from_usage(tmp_path):
    for path, api in (("/v1/chat/completions", "chat"), ("/v1/completions", "completions")):
        async with Upstream(paths=(path,), tokens_per_frame=4) as server:
            found = await figures(server.url, tmp_path, "--concurrency", "2", "--output-tokens", "16")
        (level,) = found["levels"]
        assert (found["target"]["api"], found["target"]["model"]) == (api, "parrot")
        assert (level["requests"], level["output_tokens"], level["frames"]) == (8, 8 * 16, 8 * 4)
        assert level["cached_share"] == 0.1


async def test_no_two_prompts_are_alike_and_a_shared_beginning_is_shared():
    async with Upstream() as server:
        await bench(server.url, "--concurrency", "1,4", "--shared-prefix", "0.5", "--output-tokens", "2")
    prompts = [body["messages"][0]["content"].split() for body in server.measured]
    assert len(prompts) == 4 + 16 + 2
    assert len({" ".join(prompt[:50]) for prompt in prompts}) == 1
    assert len({" ".join(prompt[50:60]) for prompt in prompts}) == len(prompts)
    assert {len(prompt) for prompt in prompts} == {100}


async def test_some_errors_are_counted_by_code_and_do_not_fail_the_run(tmp_path):
    async with Upstream(statuses=(200, 429, 503)) as server:
        code, out, _ = await bench(server.url, "--requests", "9", "--warmup", "0", "--output-tokens", "2")
    assert code == 0
    assert "3 times: 429 too_busy" in out
    assert "3 times: 503 too_busy" in out


async def test_it_fails_where_every_request_failed():
    async with Upstream(fault="error") as server:
        code, out, err = await bench(server.url, "--output-tokens", "4")
    assert (code, err) == (1, "")
    assert "4 times: in the stream: engine_failed" in out


async def test_fields_that_a_server_does_not_know_are_left_out_and_said(tmp_path):
    async with Upstream(unknown=frozenset({"ignore_eos", "min_tokens"}), usage=False, cached=None) as server:
        code, out, _ = await bench(server.url, "--output-tokens", "4")
    assert code == 0
    assert "answers of at most 4 tokens" in out
    assert "4 answers came without usage; their tokens are not counted" in out


async def test_an_interrupted_run_prints_what_it_has(tmp_path):
    file = tmp_path / "figures.json"
    async with Upstream(delay=0.01) as server:
        process = await start(server.url, "--requests", "100000", "--output-tokens", "4", "--json", str(file))
        async with asyncio.timeout(60):
            await server.receives(6)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"interrupted; only what had finished is counted" in out
    (level,) = json.loads(file.read_text())["levels"]
    assert level["interrupted"] is True
    assert level["requests"] >= 4


async def test_the_table_and_the_plot(gateway, tmp_path):
    file = tmp_path / "plot.png"
    code, out, err = await bench(gateway.url, "--concurrency", "1,2", "--output-tokens", "4", "--plot", str(file))
    assert (code, err) == (0, "")
    assert file.read_bytes().startswith(b"\x89PNG")
    for title in ("tokens/s", "requests/s", "cached", "own CPU", "p99", "time to first token", "time per output token"):
        assert title in out


async def test_the_key_is_in_no_output(tmp_path):
    file = tmp_path / "figures.json"
    async with Upstream() as server:
        _, out, err = await bench(server.url, "--api-key", "sesame", "--output-tokens", "2", "--json", str(file))
    assert server.keys == {"Bearer sesame"}
    assert "sesame" not in out + err + file.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--url", "http://127.0.0.1:9"], 1, "cannot reach http://127.0.0.1:9"),
        (["--url", "nonsense"], 1, "nonsense is no http URL"),
        (["--arrivals", "poisson"], 2, "--arrivals goes with --rate only"),
        (["--json", "/nowhere/x.json"], 2, "/nowhere/x.json: there is no such folder"),
    ],
)
async def test_what_cannot_be_done_is_one_line(arguments, code, message):
    found, out, err = await bench("http://127.0.0.1:9", *arguments)
    assert (found, out) == (code, "")
    assert err.startswith(f"llm-gateway: {message}")
    assert err.count("\n") == 1


async def test_a_plot_without_matplotlib_is_one_line_before_the_run():
    code = "import sys; sys.modules['matplotlib'] = None\nfrom gateway.cli.main import main\n"
    code += "sys.exit(main(['bench', '--url', 'http://127.0.0.1:9', '--plot', 'x.png']))"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, stderr=pipe)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert err.decode() == "llm-gateway: --plot needs matplotlib: pip install 'llm-gateway[plot]'\n"
