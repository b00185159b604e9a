"""What an engine's process gives up before it imports its engine: network, privileges, core dumps, many descriptors.

Each protection that the kernel does not let it have is named in one line of the log; the engine runs all the same.
"""

import ctypes
import errno
import logging
import os
import resource
import socket
import struct
from collections.abc import Callable

_log = logging.getLogger(__name__)

# For a model in hundreds of files and a socket or two; a leak ends with an error before the machine's table is full.
DESCRIPTORS = 4096

# linux/prctl.h, linux/seccomp.h, linux/filter.h, linux/audit.h
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_MODE_FILTER = 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENT_AT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_X32 = 0x40000000
_IO_URING_SETUP = 425
# The architecture's number, and that of socket(2) there.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_INSTRUCTION = struct.Struct("HBBI")
_PROGRAM = struct.Struct("HP")


def confine(*, network: bool) -> None:
    """Give up what no engine needs, and the network unless `network` says that this one does.

    It must be called before the first thread is started: the filter holds for the thread that sets it and for all that
    this one starts, compilers too.
    """
    steps: dict[str, Callable[[], None]] = {
        "no core dumps": lambda: _limit(resource.RLIMIT_CORE, 0),
        f"at most {DESCRIPTORS} descriptors": lambda: _limit(resource.RLIMIT_NOFILE, DESCRIPTORS),
        "no new privileges": give_up_privileges,
    }
    if not network:
        steps["no network"] = give_up_network
    missing = {name: error for name, step in steps.items() if (error := _error(step))}
    if missing:
        reasons = "; ".join(f"{name} ({error})" for name, error in missing.items())
        _log.warning("this system does not let the engine's process be confined in full; missing: %s", reasons)


def give_up_privileges() -> None:
    """Keep this process and all that it starts from gaining rights by a program's set-user-ID bit; raise `OSError`."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def give_up_network() -> None:
    """Refuse with `EPERM` to make any socket but a Unix one; raise `OSError` where no such filter is to be had.

    It is a filter of system calls (seccomp(2)), which needs no rights once privileges are given up. io_uring, which
    makes sockets past the filter, is refused with it, and so are the numbers of another architecture.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no filter is known for {machine}")
    rules = _filter(*_MACHINES[machine])
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*rule) for rule in rules))
    program = ctypes.create_string_buffer(_PROGRAM.pack(len(rules), ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _filter(architecture: int, socket_call: int) -> list[tuple[int, int, int, int]]:
    """Write the filter's instructions: code, how many to skip where it is true and where it is not, operand."""
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, 7, architecture),  # else refuse
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 5, 0, _X32),  # refuse
        (_EQUAL, 4, 0, _IO_URING_SETUP),  # refuse
        (_EQUAL, 0, 2, socket_call),  # else allow
        (_LOAD, 0, 0, _ARGUMENT_AT),
        (_EQUAL, 0, 1, socket.AF_UNIX),  # else refuse
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]


def _limit(kind: int, most: int) -> None:
    """Lower a limit for good, unless it is lower already."""
    _, hard = resource.getrlimit(kind)
    bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (bound, bound))


def _error(step: Callable[[], None]) -> str:
    try:
        step()
    except (OSError, ValueError, AttributeError) as error:  # no such function: this is no Linux
        return getattr(error, "strerror", None) or str(error)
    return ""


def _prctl(option: int, *arguments: int) -> None:
    # The C library takes four arguments after the option, as long as a pointer; the kernel wants the rest to be 0.
    padded = [ctypes.c_ulong(value) for value in [*arguments, 0, 0, 0, 0][:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
