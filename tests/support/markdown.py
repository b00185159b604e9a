"""The pages of the repository, parsed: code, links, anchors and tables."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_IGNORED = {".venv", ".pytest_cache", "node_modules", "dist"}


class Snippet(NamedTuple):
    """A block of code; `line` is the one on which its fence begins."""

    page: str
    line: int
    language: str
    text: str


def pages() -> dict[str, str]:
    """Read every page, by its path."""
    found = [*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md"), *ROOT.glob("[a-z]*/**/*.md")]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(found) if not _IGNORED & {*path.parts}
    }


def snippets(page: str, text: str) -> list[Snippet]:
    """List the blocks of code of a page."""
    return [
        Snippet(page, text.count("\n", 0, found.start()) + 1, found["language"], found["text"])
        for found in _FENCE.finditer(text)
    ]


def prose(text: str) -> str:
    """Return a page without its blocks of code."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """List where the links of a page lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """List the anchors of a page's headings, as the hosting sites make them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def tables(text: str, *head: str) -> list[dict[str, str]]:
    """List the rows of all tables of a page that have this head."""
    rows, is_wanted = [], False
    for line in prose(text).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            is_wanted = False
        elif cells == list(head):
            is_wanted = True
        elif is_wanted and not set(line) <= set("|- :"):
            rows.append(dict(zip(head, cells, strict=True)))
    return rows


def commands(text: str) -> list[str]:
    """List the commands of a shell snippet, without their comments; a line that ends in a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    stripped = [re.sub(r"(^|\s+)# .*$", "", line).strip() for line in lines]
    return [line for line in stripped if line]


def printed(text: str) -> list[str]:
    """List what a program prints, as the comments behind its prints say."""
    return re.findall(r"^(?:print|console\.log)\(.+\);? +(?:#|//) (.+)$", text, re.MULTILINE)
