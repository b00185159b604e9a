"""How large a request's body may be, and how long it may take."""

from typing import Protocol

from msgspec import Struct

from gateway.config import Config

# The one path whose bodies go to the disk as they come, and are no part of what is held.
UPLOADS = "/v1/files"
# What is around a file in the body that brings it.
_AROUND = 64 * 1024


class BodyLimits(Protocol):
    """The limits of a body; the settings of the server are those of most."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body, in bytes."""
        ...

    @property
    def body_seconds(self) -> float:
        """The time that all of it may take."""
        ...


class UploadLimits(Struct, frozen=True):
    """The limits of an upload, of which each piece has to come within `piece_seconds`."""

    max_body_bytes: int
    body_seconds: float
    piece_seconds: float


def to_limits(path: str, config: Config) -> BodyLimits:
    """Return the limits of the bodies that are sent to a path."""
    if path != UPLOADS:
        return config.server
    files = config.files
    return UploadLimits(files.max_file_bytes + _AROUND, files.upload_seconds, config.server.body_seconds)
