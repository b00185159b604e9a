"""The flags, and the plan that they make."""

import argparse
import subprocess
import sys

import pytest

from gateway.cli.bench.flags import FlagError, add_flags, to_plan
from gateway.cli.bench.plan import LoadLevel

URL = "http://127.0.0.1:8000"


def planned(*words):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return to_plan(parser.parse_args(words), URL)


def test_one_client_is_the_default():
    plan = planned()
    assert plan.url == URL
    assert plan.levels == (LoadLevel(clients=1),)
    assert (plan.prompt_words, plan.output_tokens, plan.shared_prefix, plan.api) == (100, 64, 0.0, None)


def test_a_list_is_a_level_each():
    assert planned("--concurrency", "1,8,32").levels == (
        LoadLevel(clients=1),
        LoadLevel(clients=8),
        LoadLevel(clients=32),
    )
    rates = planned("--rate", "0.5,4", "--arrivals", "constant", "--duration", "10").levels
    assert rates == tuple(LoadLevel(rate=rate, arrivals="constant", seconds=10.0) for rate in (0.5, 4.0))


def test_requests_and_duration_bound_every_level():
    level = planned("--concurrency", "2", "--requests", "10", "--duration", "3").levels[0]
    assert (level.limit, level.seconds) == (10, 3.0)


def test_every_run_has_its_own_prompts_unless_a_seed_says_which():
    assert planned().seed != planned().seed
    assert planned("--seed", "7").seed == 7


def test_all_of_a_request_can_be_said():
    words = "--api chat --model m --api-key k --prompt-words 9 --output-tokens 8 --shared-prefix 0.5"
    words += " --temperature 0.7 --timeout 5 --warmup 0"
    plan = planned(*words.split())
    assert (plan.api, plan.model, plan.api_key, plan.prompt_words) == ("chat", "m", "k", 9)
    assert (plan.output_tokens, plan.shared_prefix, plan.temperature) == (8, 0.5, 0.7)
    assert (plan.timeout, plan.warmup) == (5.0, 0)


def test_arrivals_without_a_rate_are_refused():
    with pytest.raises(FlagError, match="--rate"):
        planned("--arrivals", "poisson")


@pytest.mark.parametrize(
    "words",
    [
        "--concurrency 0",
        "--concurrency 1,,2",
        "--concurrency x",
        "--concurrency 1 --rate 1",
        "--rate 0",
        "--rate nan",
        "--rate inf",
        "--requests 0",
        "--duration -1",
        "--prompt-words 0",
        "--output-tokens 0",
        "--shared-prefix 1.5",
        "--temperature -1",
        "--timeout 0",
        "--warmup -1",
        "--api soap",
    ],
)
def test_what_makes_no_sense_is_wrong_usage(words):
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        planned(*words.split())


def test_help_imports_no_client():
    code = "import sys\nfrom gateway.cli.main import main\n"
    code += "try: main(['bench', '--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'aiohttp', 'rich', 'httpx', 'matplotlib'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--shared-prefix" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[]"
