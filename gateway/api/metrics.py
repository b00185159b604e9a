"""What Prometheus scrapes."""

import asyncio

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from gateway.api.problems import Problem
from gateway.config import Config
from gateway.telemetry import Telemetry


_EXPOSITION = ResponseSpec(
    data_container=str,
    media_type="text/plain",
    description="The metrics in Prometheus' text format; in OpenMetrics for a client that accepts it.",
    examples=[Example(id="exposition", value=_LINES)],
)


def _operation_id(handler: HTTPRouteHandler, method: HttpMethod, path: list[str | TypedPath]) -> str:
    """Tell the two paths apart."""


class MetricsController(Controller):
    """The metrics, under two paths."""

    tags = ("metrics",)

    @get(
        ["/metrics", "/v1/metrics"],
        operation_id=_operation_id,
        summary="Read the metrics",
        responses=refusals("not_found") | {200: _EXPOSITION},
    )
    async def metrics(
        self,
        request: Request[None, None, State],
        telemetry: NamedDependency[Telemetry],
        config: NamedDependency[Config],
    ) -> ASGIApp:
        """Answer in Prometheus' text format; 404 where metrics are turned off."""
        if not config.telemetry.metrics_enabled:
            raise Problem("not_found", "metrics are turned off; set METRICS_ENABLED=true")
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(telemetry.metrics.render, accept)
        return ASGIResponse(body=body, headers={"content-type": content_type})
