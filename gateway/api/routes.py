"""Every route of the service. A new dialect is its folder, and its word here."""

from collections.abc import Sequence
from importlib.metadata import entry_points

from litestar.types import ControllerRouterHandler

from gateway.api import docs
from gateway.api.admin.health import HealthController
from gateway.api.admin.metrics import MetricsController
from gateway.api.admin.requests import RequestsController
from gateway.api.anthropic.dialect import DIALECT as ANTHROPIC
from gateway.api.batches.controller import BatchController
from gateway.api.embeddings.questions import ROUTES as EMBEDDINGS
from gateway.api.exchange.dialect import Dialect
from gateway.api.exchange.question import question_routes
from gateway.api.exchange.route import generations
from gateway.api.explain.controller import explain
from gateway.api.files.controller import FileController
from gateway.api.models.controller import ModelController
from gateway.api.native.dialect import DIALECT as NATIVE
from gateway.api.openai.dialect import DIALECT as OPENAI
from gateway.api.playground import Playground
from gateway.api.replay.controller import replay
from gateway.api.rerank.questions import ROUTES as RERANK
from gateway.api.responses.dialect import DIALECT as RESPONSES
from gateway.api.tokens.controller import tokenizer_info
from gateway.api.tokens.questions import ROUTES as TOKENS
from gateway.config import ServerSettings
from gateway.service import Inference

DIALECTS: tuple[Dialect, ...] = (NATIVE, OPENAI, RESPONSES, ANTHROPIC)

# The entry points under which an installed package adds controllers.
ROUTES = "llm_gateway.routes"

_QUESTIONS = (*TOKENS, *EMBEDDINGS, *RERANK)
# How the paths of no dialect tell of errors.
WORDS = {path: route.errors for route in _QUESTIONS for path in (route.path, *route.aliases)}
_CONTROLLERS = (
    ModelController,
    tokenizer_info,
    FileController,
    BatchController,
    explain,
    replay,
    RequestsController,
    HealthController,
    MetricsController,
)


def routes(
    dialects: Sequence[Dialect], settings: ServerSettings, inference: Inference
) -> list[ControllerRouterHandler]:
    """List the routes of the dialects, of the service itself, of its pages and of installed packages."""
    spoken = [route for dialect in dialects for route in (*generations(dialect, inference), *dialect.routes)]
    root = settings.root_path
    pages: list[ControllerRouterHandler] = [*docs.Pages(root).routes()] if settings.docs else []
    if settings.playground:
        pages += Playground(dialects, root, has_docs=settings.docs).routes()
    elif settings.docs:
        pages.append(docs.front(root))
    custom = [point.load() for point in entry_points(group=ROUTES)]
    return [*spoken, *question_routes(*_QUESTIONS), *_CONTROLLERS, *pages, *custom]
