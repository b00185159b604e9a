"""`GET /v1/tokenizer_info`, also without `/v1`."""

from typing import Any

from litestar import get
from litestar.di import NamedDependency

from gateway.api.exchange.answer import HttpRequest
from gateway.api.exchange.question import inquire
from gateway.api.reference.errors import ENGINE, GENERATION, KEY, error_responses
from gateway.api.reference.paths import AskedName, name_operation
from gateway.questions import Questions
from gateway.service import Inference


@get(
    ["/tokenizer_info", "/v1/tokenizer_info"],
    operation_id=name_operation,
    tags=["tokens"],
    summary="Describe a tokenizer",
    response_description="Its configuration, with its `tokenizer_class` and its `chat_template`.",
    responses=error_responses(*KEY, *ENGINE, *GENERATION),
)
async def tokenizer_info(
    request: HttpRequest,
    inference: NamedDependency[Inference],
    questions: NamedDependency[Questions],
    model: AskedName = None,
) -> dict[str, Any]:
    """Say how a model's tokenizer is configured, as its `tokenizer_config.json` has it."""
    return await inquire(request, inference, model, questions.tokenizer_info)
