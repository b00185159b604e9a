"""A prefill that takes far longer than a hang may: the engine is left alone, and answers."""

import time

import pytest

from tests.support.processes import engines
from tests.support.service import Service

pytestmark = pytest.mark.slow

HANG = 1.5
# Without kernels, in one thread, and the whole prompt in one step: nothing is said or cached until all is read.
SLOW = {
    "ENGINE": "hf",
    "LLM_GATEWAY__ENGINES__DEFAULT__HANG_SECONDS": str(HANG),
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__KERNELS": "off",
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__THREADS": "1",
    "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__STEP_TOKENS": "4096",
    "LLM_GATEWAY__SERVER__REQUEST_SECONDS": "600",
}
WORDS = 3_000


def test_a_prompt_that_takes_long_to_read_is_no_hang():
    with Service(**SLOW) as service:
        before = engines(service.process.pid)
        service.client.timeout = 300
        begun = time.monotonic()
        answer = service.generate(prompt="one two " * (WORDS // 2), max_new_tokens=2, temperature=0)
        took = time.monotonic() - begun
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens"] >= WORDS
        assert engines(service.process.pid) == before
        assert service.metric("llm_gateway_engine_restarts_total") == 0
        if took < 2 * HANG:
            pytest.skip(f"{WORDS} tokens were read in {took:.1f} s here: too soon to be taken for a hang")
