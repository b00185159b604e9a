"""`llm-gateway completion`: what a shell needs to complete the commands and flags; argcomplete does the work.

It asks the parser at each Tab, so that a completion is never older than the program.
"""

import argparse

import argcomplete
from argcomplete.shell_integration import shellcode

_PROGRAM = "llm-gateway"


def print_completion(shell: str) -> int:
    """Print the code for a shell, for its start-up file; return the exit code."""
    print(shellcode([_PROGRAM], shell=shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asked by its variables, and exit; return where none did."""
    argcomplete.autocomplete(parser, always_complete_options=False)
