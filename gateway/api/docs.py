"""OpenAPI at `/schema`, with its pages, served from this process."""

from litestar.openapi import OpenAPIConfig

from gateway import __version__


def openapi() -> OpenAPIConfig:
    """Describe the API."""
    return OpenAPIConfig(title="LLM gateway", version=__version__, path="/schema")
