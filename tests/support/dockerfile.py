"""The Dockerfile, read for tests."""

import re
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "deploy/docker/Dockerfile"

Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Read pairs of a word and its argument, without comments and with lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (word, " ".join(argument.split())) for word, _, argument in (line.partition(" ") for line in joined) if word
    ]


def stages() -> list[list[Instruction]]:
    """Cut the instructions before each FROM; the last stage is the one that runs."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def said(word: str) -> list[str]:
    """List the arguments that a word has in the stage that runs."""
    return [argument for name, argument in stages()[-1] if name == word]


def environment() -> dict[str, str]:
    """Map the variables that the image sets."""
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(said("ENV"))))
