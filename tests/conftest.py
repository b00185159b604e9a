"""What all tests share: one echo service for those that only ask, and the skips' reasons in the summary."""

import pytest

from tests.support.service import Service


@pytest.fixture(scope="session")
def service():
    """One real service with the echo engine; for tests that leave it as they found it."""
    with Service() as running:
        yield running
