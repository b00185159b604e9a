"""How an engine says no.

    EngineError              engine_error              this generation failed inside the engine
    ├── InvalidRequest       invalid_value             the request can never be served as it is
    │   ├── Unsupported      unsupported_parameter     the model cannot do what was asked
    │   └── ContextTooLong   context_length_exceeded   prompt and answer do not fit the context
    ├── UnknownModel         model_not_found           no such model here
    ├── Overloaded           overloaded                too much to do now; try again
    ├── Unavailable          engine_unavailable        the engine is not up; try again
    │   ├── EngineRestarted  engine_restarted          its process ended in the middle; try again
    │   └── Draining         draining                  the service is going down
    ├── Quarantined          request_quarantined       the engine's process ended twice of this request
    ├── LoadFailed           load_failed               the engine can never load as it is configured
    ├── UpstreamFailed       upstream_unavailable      a server behind this engine failed
    └── DeadlineExceeded     deadline_exceeded         the time ran out before the first token

Nothing here knows HTTP. A `code` is the metric label, the log field, the wire tag and the key of the status table.
Anything else that an engine raises is a bug in it.
"""

from typing import ClassVar


class EngineError(Exception):
    """A generation failed; `message` is for the caller, `param` names the field at fault."""

    code: ClassVar[str] = "engine_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidRequest(EngineError):
    """The request can never be served as it is."""

    code: ClassVar[str] = "invalid_value"


class Unsupported(InvalidRequest):
    """The model or the engine cannot do what was asked."""

    code: ClassVar[str] = "unsupported_parameter"


class ContextTooLong(InvalidRequest):
    """Prompt and answer do not fit the model's context window."""

    code: ClassVar[str] = "context_length_exceeded"


class UnknownModel(EngineError):
    """No engine here serves a model of this name."""

    code: ClassVar[str] = "model_not_found"


class Overloaded(EngineError):
    """There is too much to do now; `retry_after` is in seconds."""

    code: ClassVar[str] = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(EngineError):
    """The engine is not up: starting, failed, unloaded or draining; `retry_after` is in seconds."""

    code: ClassVar[str] = "engine_unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineRestarted(Unavailable):
    """The engine's process ended before the answer did; another takes its place."""

    code: ClassVar[str] = "engine_restarted"


class Draining(Unavailable):
    """The service is going down and takes nothing new."""

    code: ClassVar[str] = "draining"


class Quarantined(EngineError):
    """The engine's process ended twice while it ran this request, which is not run again for now."""

    code: ClassVar[str] = "request_quarantined"


class LoadFailed(EngineError):
    """The engine can never load as it is configured; the message is one line."""

    code: ClassVar[str] = "load_failed"


class UpstreamFailed(EngineError):
    """A server behind this engine failed or sent nonsense."""

    code: ClassVar[str] = "upstream_unavailable"


class DeadlineExceeded(EngineError):
    """The caller's time ran out before the first token."""

    code: ClassVar[str] = "deadline_exceeded"
