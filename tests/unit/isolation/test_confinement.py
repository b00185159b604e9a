"""A protection that the system does not grant is named in one line, and stops nothing."""

import errno
import subprocess
import sys

import pytest

from gateway.isolation import confinement

# In a process of its own: what is given up stays so.
CONFINED = """
import logging, os, resource
logging.basicConfig(format="%(message)s")
from gateway.isolation import confinement
{change}
confinement.confine(network={network})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""


def confined(change: str = "", network: bool = False):  # noqa: FBT001, FBT002 - the text of a program
    program = CONFINED.format(change=change, network=network)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux's")
def test_all_that_is_asked_for_is_given_and_nothing_said():
    ended = confined()
    assert ended.stderr == ""
    assert int(ended.stdout) <= confinement.DESCRIPTORS


def test_a_limit_that_is_lower_already_stays():
    lower = "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))"
    assert confined(lower).stdout.strip() == "100"


def test_on_an_unknown_machine_the_line_names_what_is_missing_and_the_rest_holds():
    ended = confined("os.uname = lambda: os.uname_result(('Linux', 'x', '1', '1', 'vax'))")
    [line] = ended.stderr.splitlines()
    assert "missing: no network (no filter is known for vax)" in line
    assert int(ended.stdout) <= confinement.DESCRIPTORS


def test_without_the_kernels_help_one_line_names_all_that_is_missing():
    [line] = confined(
        "def fail(*_): raise OSError(22, 'Invalid argument')\nconfinement._prctl = fail"
    ).stderr.splitlines()
    assert "no new privileges (Invalid argument); no network (Invalid argument)" in line


def test_an_engine_that_may_use_the_network_misses_nothing():
    change = "def fail(*_): raise OSError(1, 'no')\nconfinement.give_up_network = fail"
    assert confined(change, network=True).stderr == ""


def run(rules: list[tuple[int, int, int, int]], architecture: int, number: int, argument: int = 0) -> int:
    """Run a filter as the kernel does; return what it says."""
    data = {confinement._ARCHITECTURE_AT: architecture, confinement._NUMBER_AT: number}
    data[confinement._ARGUMENT_AT] = argument
    at, held = 0, 0
    while True:
        code, so, other, operand = rules[at]
        at += 1
        if code == confinement._RETURN:
            return operand
        if code == confinement._LOAD:
            held = data[operand]
        else:
            holds = held == operand if code == confinement._EQUAL else held >= operand
            at += so if holds else other


ALLOWED, REFUSED = confinement._ALLOW, 0x00050000 | errno.EPERM


@pytest.mark.parametrize("machine", confinement._MACHINES)
@pytest.mark.parametrize(
    ("number", "argument", "answer"),
    [
        (0, 2, ALLOWED),
        (None, 1, ALLOWED),
        (None, 2, REFUSED),
        (None, 10, REFUSED),
        (None, 16, REFUSED),
        (425, 0, REFUSED),
        (0x40000000 + 41, 1, REFUSED),
    ],
    ids=["other", "unix", "inet", "inet6", "netlink", "io_uring", "x32"],
)
def test_the_filter_refuses_every_socket_but_a_unix_one(machine, number, argument, answer):
    architecture, socket_call = confinement._MACHINES[machine]
    rules = confinement._filter(architecture, socket_call)
    assert run(rules, architecture, socket_call if number is None else number, argument) == answer
    assert run(rules, architecture + 1, 0) == REFUSED
