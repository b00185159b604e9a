"""What these tests share: one service with the built-in model, which takes seconds to load."""

import pytest

from tests.support.service import Service


@pytest.fixture(scope="session")
def builtin():
    """The built-in model, as `llm-gateway` serves it, and an echo; for tests that leave it as they found it."""
    engines = {"LLM_GATEWAY__ENGINES__DEFAULT__PLUGIN": "hf", "LLM_GATEWAY__ENGINES__ECHO__PLUGIN": "echo"}
    with Service(ENGINE="", ready=False, **engines) as running:
        running.wait_for("/readyz", seconds=180)
        yield running
