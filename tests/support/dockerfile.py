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
    """Cut the instructions before each FROM; the last stage is the one that runs, and what is before all is in none."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def arguments() -> dict[str, str]:
    """Map the arguments before the first stage, which a FROM may name, to their defaults."""
    before = [argument for word, argument in instructions()[: -sum(map(len, stages()))] if word == "ARG"]
    return dict(argument.split("=", 1) for argument in before)


def said(word: str) -> list[str]:
    """List the arguments that a word has in the stage that runs."""
    return [argument for name, argument in stages()[-1] if name == word]


def environment() -> dict[str, str]:
    """Map the variables that the image sets."""
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(said("ENV"))))
