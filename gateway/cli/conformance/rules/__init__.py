"""The rules, a file for each group; importing the package enters them in the order of the files."""

from gateway.cli.conformance.rule import RULES

from gateway.cli.conformance.rules import (  # isort: skip
    answers as answers,
    streams as streams,
    parameters as parameters,
    errors as errors,
    shapes as shapes,
    tools as tools,
    life as life,
)

__all__ = ["RULES"]
