"""One thread owns the model: take orders, admit, step, post.

The event loop talks to it through one queue and hears from it through one post a step, so nothing is locked.
"""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from gateway.engine import Post, Unavailable
from gateway_hf.batch import Batch, Generation, MailboxEvent

_log = logging.getLogger("gateway_hf")

M = TypeVar("M")

Order = Callable[[Batch], None]

# Seconds at most without a sign of life while work stands by.
_NAP = 1.0


class Loop(Generic[M]):
    """Loads with `load` in a thread of its own, which then runs the batch that was loaded until it is told to end.

    `loaded` becomes what `load` returned beside the batch, or what it raised. The batch, and so the model, lives and
    dies with the thread, which calls `release` when nothing refers to them any more. `naps` counts how often it waited
    with work that stands by.
    """

    def __init__(self, load: Callable[[], tuple[Batch, M]], release: Callable[[], None], post: Post) -> None:
        self.naps = 0
        self.loaded: Future[M] = Future()
        self._load = load
        self._release = release
        self._post = post
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._ending = False
        self._ended = False
        self._thread = Thread(target=self._run, name="hf-loop", daemon=True)
        # A future that runs cannot be cancelled by who waits for it.
        self.loaded.set_running_or_notify_cancel()
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still takes generations."""
        return not self._ended

    def submit(self, generation: Generation) -> None:
        """Let a generation join; raise `Unavailable` when the thread has ended."""
        self._orders.put(lambda batch: batch.join(generation))
        # The thread says that it has ended before it looks at its orders for the last time, so none is lost.
        if self._ended:
            raise Unavailable("the model is not loaded")

    def cancel(self, generation: Generation) -> None:
        """Let a generation leave; harmless when it has ended."""
        self._orders.put(lambda batch: batch.leave(generation))

    def end(self) -> None:
        """Tell the thread to end; what runs is turned away."""
        self._orders.put(self._end)

    def join(self) -> None:
        """Wait until the thread has ended and its memory is free."""
        self._thread.join()

    def _end(self, _: Batch) -> None:
        self._ending = True

    def _run(self) -> None:
        try:
            self._live()
        finally:
            self._release()

    def _live(self) -> None:
        try:
            batch, loaded = self._load()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the model must hear of it
            self._ended = True
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(loaded)
        try:
            self._serve(batch)
        finally:
            self._ended = True
            self._obey(batch)
            self._post.send(batch.fail("the model was unloaded"))

    def _serve(self, batch: Batch) -> None:
        while not self._ending:
            letters: list[MailboxEvent] = []
            try:
                self._step(batch, letters)
            except BaseException:  # noqa: BLE001 - one bad step must not end the thread
                _log.exception("a step failed outside of any generation")
                letters += batch.fail("the engine had to start over")
            self._post.send(letters)

    def _step(self, batch: Batch, letters: list[MailboxEvent]) -> None:
        """Obey the orders, then run one step; what it says until it breaks is kept."""
        while (pause := batch.pause) != 0.0 and not self._ending:
            if self._orders.empty() and batch.prepare():
                continue
            self.naps += pause is not None
            with contextlib.suppress(Empty):
                self._orders.get(timeout=None if pause is None else min(pause, _NAP))(batch)
        self._obey(batch)
        letters.extend(batch.step())

    def _obey(self, batch: Batch) -> None:
        while True:
            try:
                order = self._orders.get_nowait()
            except Empty:
                return
            order(batch)
