"""The metrics in Prometheus' text format."""

import asyncio
from types import MappingProxyType

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.response.base import ASGIResponse
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp, Method
from litestar.types.internal_types import PathParameterDefinition

from gateway.api.http.access import METRICS
from gateway.api.http.problems import Problem
from gateway.api.reference.errors import KEY, error_responses
from gateway.config.snapshot import CurrentConfig
from gateway.hosting.hosting import Hosting
from gateway.telemetry import ROUTINE, Telemetry

_LINES = """# HELP llm_gateway_requests_total HTTP requests answered.
# TYPE llm_gateway_requests_total counter
llm_gateway_requests_total{endpoint="/v1/generate",model="smollm2-135m-instruct",status="200"} 3.0
"""
_EXPOSITION = ResponseSpec(
    data_container=str,
    generate_examples=False,
    media_type="text/plain",
    description="The metrics in Prometheus' text format; in OpenMetrics for a client that accepts it.",
    examples=[Example(id="exposition", value=_LINES)],
)


def _operation_id(handler: HTTPRouteHandler, method: Method, path: list[str | PathParameterDefinition]) -> str:
    """Tell the two paths apart."""
    del handler, method
    return "".join(map(str, path))


class MetricsController(Controller):
    """The metrics, under two paths."""

    opt = MappingProxyType({**ROUTINE, **METRICS})
    tags = ("metrics",)

    @get(
        ["/metrics", "/v1/metrics"],
        operation_id=_operation_id,
        summary="Read the metrics",
        responses=error_responses(*KEY, "not_found") | {HTTP_200_OK: _EXPOSITION},
    )
    async def metrics(
        self,
        request: Request[None, None, State],
        telemetry: NamedDependency[Telemetry],
        current: NamedDependency[CurrentConfig],
        hosting: NamedDependency[Hosting],
    ) -> ASGIApp:
        """Answer in Prometheus' text format; 404 where metrics are turned off."""
        if not current.config.telemetry.metrics_enabled:
            raise Problem("not_found", "metrics are turned off; set METRICS_ENABLED=true")
        await hosting.ask_all()
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(telemetry.metrics.render, accept)
        return ASGIResponse(body=body, headers={"content-type": content_type})
