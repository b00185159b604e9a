"""Read Server-Sent Events from bytes that come in pieces of any size, in bounded memory."""

from gateway.engine import UpstreamFailed

MOST_BYTES = 1 << 20
DONE = b"[DONE]"


class FrameReader:
    """Takes bytes and gives the data of each event, whatever the pieces.

    A line ends with LF or CRLF, and several lines of data are one. Comments and other fields are left out, and so is
    an event without its empty line at the end of the stream. A line or event above `MOST_BYTES` is `UpstreamFailed`.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._held = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Take the next piece and return the data of the events that it completes."""
        found: list[bytes] = []
        if not self._rest and not self._data and piece.endswith(b"\n\n") and b"\r" not in piece:
            self._take_whole(piece, found)
            return found
        self._rest += piece
        begin = 0
        while (end := self._rest.find(b"\n", max(begin, self._searched))) >= 0:
            if end - begin > MOST_BYTES:
                raise UpstreamFailed(_TOO_LONG)
            self._take(bytes(self._rest[begin:end]).removesuffix(b"\r"), found)
            begin = end + 1
        del self._rest[:begin]
        self._searched = len(self._rest)
        if len(self._rest) > MOST_BYTES:
            raise UpstreamFailed(_TOO_LONG)
        return found

    def _take_whole(self, piece: bytes, found: list[bytes]) -> None:
        """Take a piece that is whole events, as nearly all are."""
        for event in piece[:-2].split(b"\n\n"):
            if len(event) > MOST_BYTES:
                raise UpstreamFailed(_TOO_LONG)
            if event.startswith(b"data: ") and b"\n" not in event:
                found.append(event[6:])
            else:
                for line in (*event.split(b"\n"), b""):
                    self._take(line, found)

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if not line:
            if self._data:
                found.append(b"\n".join(self._data))
                self._data, self._held = [], 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._held += len(value) + 1
            if self._held > MOST_BYTES:
                raise UpstreamFailed(_TOO_LONG)
            self._data.append(value)


_TOO_LONG = f"the server behind this model sent an event of more than {MOST_BYTES} bytes"
