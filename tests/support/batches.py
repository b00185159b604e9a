"""Files of batches, and what comes of them, as OpenAI's SDK sees it."""

import json

from tests.support.observe import eventually

OVER = {"completed", "failed", "expired", "cancelled"}


class Lines:
    """The lines of a batch for one route, each with a custom id of its own."""

    def __init__(self, url):
        self.url = url
        self.ids = []
        self._lines = []

    def add(self, body, custom_id=None):
        self.ids.append(custom_id or f"line-{len(self.ids)}")
        self._lines.append({"custom_id": self.ids[-1], "method": "POST", "url": self.url, "body": body})
        return self

    def add_all(self, bodies):
        for body in bodies:
            self.add(body)
        return self

    @property
    def content(self):
        return b"".join(json.dumps(line).encode() + b"\n" for line in self._lines)


def ended(client, batch, seconds):
    """Wait until a batch is over, and return it."""

    def look():
        found = client.batches.retrieve(batch.id)
        return found if found.status in OVER else None

    return eventually(look, seconds)


def lines_of(client, file_id):
    """Return the lines of a file."""
    return [json.loads(line) for line in client.files.content(file_id).read().splitlines()]
