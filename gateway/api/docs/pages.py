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
<noscript>This page needs JavaScript; without it there is <a href="/schema/openapi.json">the document</a>.</noscript>
<div id="page"></div>
<script type="module">{start}</script>
</body>
</html>
"""

# A page may use what this service serves, and no other host, whatever its script would like to tell one.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
# Left to itself, Scalar fetches fonts, sends telemetry and offers services that would get the document.
_SCALAR = """Scalar.createApiReference('#page', {
    url: '/schema/openapi.json',
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
_SWAGGER = "SwaggerUIBundle({ url: '/schema/openapi.json', dom_id: '#page', deepLinking: true, validatorUrl: null })"
_REDOC = f"""import {{ init }} from '{url("redoc.js")}'
init('/schema/openapi.json', {{ disableTelemetry: true }}, document.getElementById('page'))"""


class Page(OpenAPIRenderPlugin):
    """One page: its path under `/schema`, the script that starts it, and the assets which that needs before."""

    def __init__(self, path: str, start: str, *assets: str) -> None:
        super().__init__(path=path)
        self.html = _PAGE.format(policy=_POLICY, tags="\n".join(map(_tag, assets)), start=start).encode()

    def render(self, request: Request[None, None, State], openapi_schema: dict[str, object]) -> bytes:
        """Answer with the page; it asks for the document by itself."""
        del request, openapi_schema
        return self.html


def _tag(name: str) -> str:
    if name.endswith(".css"):
        return f'<link rel="stylesheet" href="{url(name)}">'
    return f'<script defer src="{url(name)}"></script>'


def _also_at(path: str, page: Page) -> HTTPRouteHandler:
    @get(path, media_type=MediaType.HTML, opt=PUBLIC, include_in_schema=False)
    async def show() -> bytes:
        return page.html

    return show


@get("/", opt=PUBLIC, include_in_schema=False)
async def front() -> Redirect:
    """Lead to the reference, where there is no playground."""
    return Redirect("/schema")


async def _refuse_unknown(request: Request[None, None, State]) -> None:
    """Answer an unknown page like any unknown path; Litestar would answer with a page of its own."""
    if request.path_params:
        raise NotFoundException


def router() -> Router:
    """Make the router that Litestar fills with the pages and the document."""
    return Router("/schema", route_handlers=[], opt=PUBLIC, include_in_schema=False, before_request=_refuse_unknown)


SCALAR = Page("/scalar", _SCALAR, "scalar.js")
SWAGGER = Page("/swagger", _SWAGGER, "swagger_style.css", "swagger_bundle.js")
REDOC = Page("/redoc", _REDOC)

ROUTES = (_also_at("/docs", SWAGGER), _also_at("/redoc", REDOC), asset)
