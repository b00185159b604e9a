"""A package of somebody else's adds its own endpoints, behind the same edge."""

import pytest

from gateway.auth import KeyFile
from tests.support.observe import is_error
from tests.support.package import install
from tests.support.service import Service

MODULE = '''
from litestar import Controller, get
from litestar.params import FromPath
from pydantic import BaseModel


class Greeting(BaseModel):
    """What those who use pydantic would answer."""

    whom: str


class Hello(Controller):
    """An endpoint of another package."""

    @get("/hello/{name:str}")
    async def hello(self, name: FromPath[str]) -> dict[str, str]:
        """Greet."""
        return {"hello": name}

    @get("/greeting")
    async def greeting(self) -> Greeting:
        """Greet in pydantic's way."""
        return Greeting(whom="you")

    @get("/fails")
    async def fails(self) -> None:
        """Break."""
        raise ZeroDivisionError("secret inside")
'''


@pytest.fixture
def package(tmp_path):
    install(tmp_path, "their_routes", MODULE, "llm_gateway.routes", {"hello": "their_routes:Hello"})
    return tmp_path


def test_a_custom_endpoint_is_served_documented_and_guarded(package):
    with Service(PYTHONPATH=str(package)) as service:
        answer = service.client.get("/hello/you")
        assert answer.json() == {"hello": "you"}
        assert answer.headers["x-request-id"]
        assert "/hello/{name}" in service.client.get("/schema/openapi.json").json()["paths"]
        assert service.metric("llm_gateway_requests_total", endpoint="/hello/{name}", status="200") == 1
        assert service.client.get("/greeting").json() == {"whom": "you"}
        failed = service.client.get("/fails")
        assert failed.status_code == 500
        assert failed.json()["error"]["code"] == "internal_error"
        assert "secret" not in failed.text
    told = [line["exception"] for line in service.kept if "exception" in line]
    assert len(told) == 1
    assert "secret inside" in told[0]


def test_a_custom_endpoint_asks_for_a_key_where_there_are_keys(package):
    file = KeyFile(package / "keys.db")
    _, key = file.create("shop")
    with Service(PYTHONPATH=str(package), LLM_GATEWAY__AUTH__FILE=str(package / "keys.db")) as service:
        assert is_error(service.client.get("/hello/you"), 401, "missing_api_key")
        assert service.client.get("/hello/you", headers={"x-api-key": key}).json() == {"hello": "you"}
