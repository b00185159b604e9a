"""Several services of one configuration, each with its own port, that are killed, stopped and started again."""

import signal
from contextlib import ExitStack
from typing import Self

from tests.support.service import Service, free_port


class Replicas:
    """A context with `count` services; what is started again has the port and the settings of before."""

    def __init__(self, count: int, **environment: str) -> None:
        self._environment = environment
        self.ports = [free_port() for _ in range(count)]
        self.services: list[Service] = []

    def __enter__(self) -> Self:
        self.services = [self._make(port, ready=False) for port in self.ports]
        with ExitStack() as started:
            for service in self.services:
                started.enter_context(service)
            for service in self.services:
                service.wait_for("/readyz")
            started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services:
            service.__exit__()

    def start(self, number: int) -> None:
        """Start a replica that has ended, and wait until it is ready."""
        self.services[number].__exit__()
        self.services[number] = self._make(self.ports[number])
        self.services[number].__enter__()

    def stop(self, number: int, seconds: float = 60.0) -> int:
        """Have a replica end in its own time; return its exit code."""
        process = self.services[number].process
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def kill(self, number: int) -> None:
        """End a replica at once."""
        self.services[number].process.kill()
        self.services[number].process.wait()

    def _make(self, port: int, *, ready: bool = True) -> Service:
        return Service(ready=ready, PORT=str(port), **self._environment)
