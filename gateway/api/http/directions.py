"""Next steps for a request with a wrong path, method or content type."""

from collections.abc import Collection, Iterable

from litestar.types import HTTPScope

from gateway.api.http.problems import Problem
from gateway.api.http.unknown_fields import nearest

_SHOWN = 60
_TWICE = "/v1 is there twice: the base URL ends in /v1 already"
_BASE = "/v1 is a base URL; GET /v1/models lists the models"
_OTHERS = "of OpenAI's API there are chats, completions and models here"
# Beginnings of paths in other APIs, the longest first that could be one of another.
_FOREIGN = {
    "/api/tags": "Ollama's API is not spoken here; GET /v1/models lists the models",
    "/api/embed": "Ollama's API is not spoken here; send POST /v1/embeddings",
    "/api/": "Ollama's API is not spoken here; /v1 is the base URL for OpenAI's clients",
    "/v1beta": "Gemini's API is not spoken here; /v1 is the base URL for OpenAI's clients",
    "/v1/uploads": "a file is sent whole: POST /v1/files",
    "/v1/complete": "send POST /v1/messages",
    "/completion": "send POST /v1/completions",
    "/generate": "send POST /v1/generate",
    "/invocations": "send POST /v1/generate",
    "/v1/messages/batches": "messages are not taken in batches here",
    **dict.fromkeys(
        (
            "/v1/assistants",
            "/v1/audio",
            "/v1/fine_tuning",
            "/v1/images",
            "/v1/moderations",
            "/v1/threads",
            "/v1/vector_stores",
        ),
        _OTHERS,
    ),
}
_SAME = frozenset({"HEAD", "OPTIONS"})


def direct(problem: Problem, scope: HTTPScope) -> Problem:
    """Return the problem with the next step, where the framework missed a path or a method."""
    if not problem.is_general:
        return problem
    if problem.code == "not_found":
        paths = [route.path for route in scope["litestar_app"].routes] if "litestar_app" in scope else []
        return Problem(problem.code, f"there is nothing at this path; {_to_path(scope['path'], paths)}")
    if problem.code == "method_not_allowed":
        allowed = problem.headers.get("allow", problem.headers.get("Allow", ""))
        message = f"{scope['method'][:_SHOWN]} is not taken here; send {_to_methods(allowed)}"
        return Problem(problem.code, message, headers=problem.headers)
    return problem


def wrong_content_type(media: bytes) -> Problem:
    """Refuse a content type, and say the right one."""
    kind = media.partition(b";")[0].strip().decode("latin-1")[:_SHOWN]
    found = f"the content type is {kind}" if kind else "there is no content type"
    return Problem("unsupported_media_type", f"{found}; send application/json (curl --json)")


def _to_path(path: str, paths: Collection[str]) -> str:
    bare = path.rstrip("/")
    if bare == "/v1":
        return _BASE
    if bare.startswith("/v1/v1"):
        return _TWICE
    if f"/v1{bare}" in paths:
        return f"did you mean /v1{bare}?"
    foreign = next((told for begin, told in _FOREIGN.items() if _begins(bare, begin)), None)
    near = nearest(bare, _plain(paths)) if foreign is None else None
    if told := foreign or (near and f"did you mean {near}?"):
        return told
    return "/schema lists all paths" if "/schema" in paths else _BASE


def _begins(path: str, begin: str) -> bool:
    """Tell whether a path is `begin`, or further inside it."""
    return path == begin or path.startswith(begin if begin.endswith("/") else f"{begin}/")


def _plain(paths: Iterable[str]) -> Iterable[str]:
    """List the paths without parameters that are no page's."""
    return (path for path in paths if "{" not in path and not path.startswith("/schema") and len(path) > 1)


def _to_methods(allow: str) -> str:
    """Name the methods of a path, but for those that every path takes."""
    methods = sorted({method.strip() for method in allow.split(",")} - _SAME)
    return " or ".join(methods)
