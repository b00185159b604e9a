"""The pages that show the document: Scalar, Swagger UI and ReDoc, each a few lines around a script of `offapi`.

The scripts are addresses of their own, not part of the pages: a browser then asks for each of them once.
"""

from litestar import MediaType, Request, Router, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.response import Redirect

from gateway.api.docs.assets import asset, url
from gateway.api.http.access import PUBLIC

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="content-security-policy" content="{policy}">
<title>LLM gateway</title>
<link rel="icon" href="data:,">
<style>body {{ margin: 0 }}</style>
{tags}
</head>
<body>
<noscript>This page needs JavaScript; without it there is
<a href="{root}/schema/openapi.json">the document</a>.</noscript>
<div id="page"></div>
<script type="module">{start}</script>
</body>
</html>
"""

# A page may use what this service serves, and no other host, whatever its script would like to tell one.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
# Left to itself, Scalar fetches fonts, sends telemetry and offers services that would get the document.
_SCALAR = """Scalar.createApiReference('#page', {
    url: '{root}/schema/openapi.json',
    agent: { disabled: true },
    customCss: 'button[aria-haspopup=dialog].px-3 { display: none }',
    defaultOpenAllTags: true,
    hideClientButton: true,
    mcp: { disabled: true },
    modelsSectionLabel: 'bodies',
    orderSchemaPropertiesBy: 'preserve',
    showDeveloperTools: 'never',
    telemetry: false,
    withDefaultFonts: false,
})"""
_SWAGGER = """SwaggerUIBundle({
    url: '{root}/schema/openapi.json', dom_id: '#page', deepLinking: true, validatorUrl: null,
})"""
_REDOC = """import { init } from '{redoc}'
init('{root}/schema/openapi.json', { disableTelemetry: true }, document.getElementById('page'))"""


class Page(OpenAPIRenderPlugin):
    """One page: its path under `/schema`, the script that starts it, and the assets which that needs before.

    `root` is the prefix under which browsers find the service.
    """

    def __init__(self, path: str, root: str, start: str, *assets: str) -> None:
        super().__init__(path=path)
        started = start.replace("{root}", root).replace("{redoc}", url("redoc.js", root))
        tags = "\n".join(_tag(url(name, root)) for name in assets)
        self.html = _PAGE.format(policy=_POLICY, root=root, tags=tags, start=started).encode()

    def render(self, request: Request[None, None, State], openapi_schema: dict[str, object]) -> bytes:
        """Answer with the page; it asks for the document by itself."""
        del request, openapi_schema
        return self.html


class Pages:
    """The three pages of a service that browsers find at `root`."""

    def __init__(self, root: str = "") -> None:
        self.root = root
        self.scalar = Page("/scalar", root, _SCALAR, "scalar.js")
        self.swagger = Page("/swagger", root, _SWAGGER, "swagger_style.css", "swagger_bundle.js")
        self.redoc = Page("/redoc", root, _REDOC)

    @property
    def all(self) -> tuple[Page, ...]:
        """The pages in the order in which Litestar takes them: the first is at `/schema` itself."""
        return self.scalar, self.swagger, self.redoc

    def routes(self) -> tuple[HTTPRouteHandler, ...]:
        """Make the routes beside those of the document."""
        return _also_at("/docs", self.swagger), _also_at("/redoc", self.redoc), asset


def _tag(address: str) -> str:
    if ".css?" in address:
        return f'<link rel="stylesheet" href="{address}">'
    return f'<script defer src="{address}"></script>'


def _also_at(path: str, page: Page) -> HTTPRouteHandler:
    @get(path, media_type=MediaType.HTML, opt=PUBLIC, include_in_schema=False)
    async def show() -> bytes:
        return page.html

    return show


def front(root: str) -> HTTPRouteHandler:
    """Make the route that leads to the reference, where there is no playground."""

    @get("/", opt=PUBLIC, include_in_schema=False)
    async def lead() -> Redirect:
        return Redirect(f"{root}/schema")

    return lead


async def _refuse_unknown(request: Request[None, None, State]) -> None:
    """Answer an unknown page like any unknown path; Litestar would answer with a page of its own."""
    if request.path_params:
        raise NotFoundException


def router() -> Router:
    """Make the router that Litestar fills with the pages and the document."""
    return Router("/schema", route_handlers=[], opt=PUBLIC, include_in_schema=False, before_request=_refuse_unknown)
