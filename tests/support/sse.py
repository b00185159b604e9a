"""Server-Sent Events as a client reads them."""

import json
from collections.abc import Iterable, Iterator


def split(texts: Iterable[str]) -> Iterator[str]:
    """Split at line feeds only: JSON may hold other characters that Python takes for line ends."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from lines
    if rest:
        yield rest


def frames(texts: Iterable[str]) -> Iterator[dict | str]:
    """Yield each frame's JSON, `[DONE]` as it is, and comments as they are."""
    for line in split(texts):
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)
        elif line.startswith(":"):
            yield line
