"""What these tests share: one service that nobody configured; its model takes seconds to load."""

import pytest

from tests.support.service import Service


@pytest.fixture(scope="session")
def builtin():
    """The built-in model, as `llm-gateway` serves it but for the port; for tests that leave it as they found it."""
    with Service(ENGINE="", ready=False) as running:
        running.wait_for("/livez")
        running.wait_for("/readyz", seconds=180)
        yield running
