"""OpenAPI 3.1 at `/schema` with three pages that show it, all served from this process."""

from gateway.api.docs.description import Description
from gateway.api.docs.pages import Pages, front

__all__ = ["Description", "Pages", "front"]
