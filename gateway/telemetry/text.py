"""Log lines for people: what happened, and nothing twice; the line of a request has at most 100 columns."""

import re
from collections.abc import Mapping
from urllib.parse import quote

import loguru

Scalar = str | int | float | bool

COLORS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_WIDTH = 100
# Control characters, line separators, direction marks, lone surrogates: a terminal or a line reader may act on them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_BARE = re.compile(r"[\w./:{}+-]+")
_OWN = "gateway."
# Parts of a request's line in the order in which they are left out.
_LEAST = ("key", "model", "first", "id", "tokens")
_SHORTEST_PATH = 32


def text_line(
    record: "loguru.Record", fields: dict[str, Scalar], trace: str, *, is_terminal: bool, is_colored: bool
) -> str:
    """Write a record as a line, and its traceback below; on a terminal the time goes without its date."""
    level = f"{record['level'].name:<7}"
    moment = f"{record['time']:{'%H:%M:%S.%f' if is_terminal else '%Y-%m-%d %H:%M:%S.%f'}}"[:-3]
    room = _WIDTH - len(moment) - len(level) - 2
    told = _request(fields, room) if fields.get("event") == "request" else _event(record["message"], fields)
    if is_colored:
        level = f"\x1b[{COLORS.get(level.strip(), '0')}m{level}\x1b[0m"
    # A traceback keeps its lines, each behind a mark that no line of ours begins with.
    lines = [f"    | {escape(line)}\n" for line in trace.split("\n") if line]
    return f"{moment} {level} {told}\n{''.join(lines)}"


def _event(message: str, fields: dict[str, Scalar]) -> str:
    """Write the message, and the fields that it does not say itself."""
    logger = str(fields.pop("logger"))
    for hidden in ("event", "progress"):
        fields.pop(hidden, None)
    words = [
        escape(message),
        *[f"{escape(key)}={_word(value)}" for key, value in fields.items() if not _says(message, value)],
    ]
    return " ".join(words if logger.startswith(_OWN) else [f"{escape(logger)}:", *words])


def _says(message: str, value: Scalar) -> bool:
    return isinstance(value, str) and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", message) is not None


def _request(fields: Mapping[str, Scalar], room: int) -> str:
    """Write a request in `room` columns: parts that matter least are left out, then the path is cut."""
    before, after = f"{fields['method']} ", f" {fields['status']} {_duration(fields['duration_ms'])}"
    path = quote(str(fields["path"]), safe="/:@{}!$&'()*+,;=~", errors="replace")
    parts = _parts(fields)
    for least in _LEAST:
        if len(before) + min(len(path), _SHORTEST_PATH) + len(after) + _length(parts) <= room:
            break
        parts.pop(least, None)
    longest = room - len(before) - len(after) - _length(parts)
    if len(path) > longest:
        path = path[: longest - 3] + "..."
    return ", ".join([f"{before}{path}{after}", *parts.values()])


def _parts(fields: Mapping[str, Scalar]) -> dict[str, str]:
    """Return what may stand behind the duration, from left to right."""
    outcome, code = str(fields["outcome"]), str(fields.get("code", ""))
    found = {
        "code": f"aborted: {code}" if outcome == "aborted" else code,
        "tokens": f"{fields.get('prompt_tokens', 0)}+{fields['tokens']} tokens" if "tokens" in fields else "",
        "first": f"first {_duration(fields['ttft_ms'])}" if "ttft_ms" in fields else "",
        "model": str(fields.get("model", "")),
        "key": str(fields.get("key_id", "")),
        "id": str(fields.get("request_id", "")),
    }
    return {name: escape(part) for name, part in found.items() if part}


def _length(parts: Mapping[str, str]) -> int:
    return sum(len(part) + 2 for part in parts.values())


def _duration(milliseconds: Scalar) -> str:
    value = float(milliseconds)
    if value < 10:  # noqa: PLR2004 - a digit more where it says something
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1e3:.1f} s"  # noqa: PLR2004 - a second


def _word(value: Scalar) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else f'"{escape(text)}"'


def escape(text: str) -> str:
    """Write the characters that a terminal could act on as their numbers."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
