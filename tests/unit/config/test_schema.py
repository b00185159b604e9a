"""What the settings say of themselves."""

import pytest

from gateway import config


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("a.example", "http://a.example:8000")],  # noqa: S104 - read, not bound
)
def test_a_server_says_where_a_client_finds_it(host, url):
    assert config.ServerSettings(host=host).url == url
