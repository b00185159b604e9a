"""The process that reads a tokenizer once and forks the workers that compile and check: each can die of its job.

A worker keeps itself within its budget: the kernel ends it when its time is spent, whatever code it is in, and an
allocation beyond its memory ends it as well. It serves until the engine closes its socket.
"""

import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
from llguidance import LLTokenizer

from gateway.engine import InvalidRequest, JsonSchema
from gateway_hf.constrain.check import find_fault
from gateway_hf.constrain.grammars import grammar_of, matcher_of
from gateway_hf.constrain.jobs import CompileBudget, Hello, Job, JobResult, Nursing, receive, send
from gateway_hf.constrain.vocabulary import load_vocabulary

# A worker is replaced after so many jobs, with what they left in its memory.
_MOST_JOBS = 200
# It is done before there are workers: what the libraries make once and keep, each worker has then.
_FIRST = Job(JsonSchema({"type": "object", "properties": {"a": {"type": "string", "pattern": "a+"}}}))
# Workers give way to the model; after a while the engine has them give way to all (`workers.py`).
_NICE = 5


def main(descriptor: int) -> None:
    """Serve at an inherited socket until its other end is closed; each descriptor that comes is a worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes, and the engine decides
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no worker is left as a zombie
    with socket.socket(fileno=descriptor) as control:
        nursing = msgspec.msgpack.decode(receive(control), type=Nursing)
        tokenizer = load_vocabulary(nursing.tokenizer, nursing.vocabulary, nursing.ends)
        do(_FIRST, tokenizer)
        while descriptors := socket.recv_fds(control, 1, 1)[1]:
            if os.fork() == 0:
                control.close()
                with socket.socket(fileno=descriptors[0]) as channel:
                    _work(channel, tokenizer, nursing.budget)
                os._exit(0)
            os.close(descriptors[0])


def _work(channel: socket.socket, tokenizer: LLTokenizer, budget: CompileBudget) -> None:
    os.nice(_NICE)
    most = _memory(0) + (budget.mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        send(channel, Hello(os.getpid()))
    for number in range(1, _MOST_JOBS + 1):
        try:
            job = msgspec.msgpack.decode(receive(channel), type=Job)
            signal.setitimer(signal.ITIMER_PROF, budget.seconds)
            result = do(job, tokenizer)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(channel, msgspec.structs.replace(result, last=number == _MOST_JOBS))
        except (EOFError, OSError):
            return


def do(job: Job, tokenizer: LLTokenizer) -> JobResult:
    """Do a job; an error in it is its result."""
    before = _memory(1)
    try:
        if job.text is not None:
            return JobResult(fault=find_fault(job.constraint, job.text))
        grammar = grammar_of(job.constraint)
        kept = matcher_of(job.constraint, grammar, tokenizer)
    except InvalidRequest as error:
        return JobResult(fault=error.message)
    except BaseException as error:  # noqa: BLE001 - a panic of the library is no `Exception`
        return JobResult(fault=f"it cannot be read: {type(error).__name__}")
    size = _memory(1) - before
    del kept
    return JobResult(grammar, max(size, 0))


def _memory(column: int) -> int:
    """Return the bytes of this process: all of its addresses (column 0), or what is in memory (1)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[column]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
