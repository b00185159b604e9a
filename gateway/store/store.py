"""The store as the event loop sees it: one thread works at the database, and a store that fails holds up no answer."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from loguru import logger

from gateway.flow.tasks import Tasks
from gateway.store.database import Database
from gateway.store.entry import Entry, EntryPage, StoreFileError, StoreUnavailable
from gateway.store.settings import StoreSettings

T = TypeVar("T")

_SWEEP_SECONDS = 60.0
# A disk that answers more slowly counts as down.
_PATIENCE_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
# Pieces of work that may wait for the thread; each holds an entry.
_MOST_WAITING = 256
_AWAY = "what is stored cannot be reached at the moment; try again"


class Store:
    """Everything that is stored. Enter it to have old entries removed, leave it to close the file.

    The file is opened when it is needed, and again after a failure. `size` in bytes, `entries`, `evicted` and
    `failures` are for the metrics.
    """

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.time) -> None:
        self.size = self.entries = self.evicted = self.failures = 0
        self.is_degraded = False
        self._settings = settings
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "store")
        self._tasks = Tasks()
        self._database: Database | None = None
        # Counted apart, each on one thread only.
        self._begun = self._ended = 0

    async def __aenter__(self) -> Self:
        if self._settings.max_bytes:
            self._tasks.start(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def of(self, owner: str) -> "Shelf":
        """Return what is stored for one caller, by the id of its key."""
        return Shelf(self, owner)

    async def run(self, work: Callable[[Database], T], *, has_room: bool = False) -> T:
        """Return what `work` makes of the database on the store's thread; raise `StoreUnavailable`.

        It is done to its end, also where nothing waits for it any more. Work that stores something shows, where it
        succeeds, that the store `has_room` again: a full disk can still be read.
        """
        if self._begun - self._ended >= _MOST_WAITING:
            raise self._fail("too much waits for it")
        self._begun += 1
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        done.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                result = await asyncio.shield(done)
        except TimeoutError:
            raise self._fail(f"it did not answer within {_PATIENCE_SECONDS:g} s") from None
        except (sqlite3.Error, StoreFileError, OSError) as error:
            raise self._fail(str(error)) from None
        if has_room:
            self._tell(is_degraded=False)
        return result

    def _do(self, work: Callable[[Database], T]) -> T:
        try:
            if self._database is not None and self._database.has_lost_its_file():
                logger.bind(event="store_file_lost").warning("the file of the store was removed: a new one is made")
                self._close()
            if self._database is None:
                settings = self._settings
                path = None if settings.file is None else Path(settings.file)
                self._database = Database(path, settings.max_bytes, settings.ttl_seconds, self._clock)
            before = self._database.evicted
            result = work(self._database)
            self.evicted += self._database.evicted - before
            self.size, self.entries = self._database.totals()
        except sqlite3.OperationalError:
            raise  # locked, or the disk is full: the connection is still good
        except sqlite3.DatabaseError:
            if self._settings.file is not None:
                self._close()
            raise
        else:
            return result
        finally:
            self._ended += 1

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    async def _sweep(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                await self.run(Database.sweep)
            await asyncio.sleep(_SWEEP_SECONDS)

    def _fail(self, why: str) -> StoreUnavailable:
        self.failures += 1
        self._tell(is_degraded=True, why=why)
        return StoreUnavailable(_AWAY)

    def _tell(self, *, is_degraded: bool, why: str = "") -> None:
        if is_degraded is self.is_degraded:
            return
        self.is_degraded = is_degraded
        if is_degraded:
            logger.bind(event="store_failed").warning("nothing can be stored for now: {}", why)
        else:
            logger.bind(event="store_restored").info("the store is back")


class Shelf:
    """The entries of one owner; another owner's are not there. Methods raise `StoreUnavailable`."""

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._owner = owner

    async def put(self, entry: Entry) -> bool:
        """Store an entry; return whether it was stored. It does not raise: an answer is given all the same."""
        try:
            return await self._store.run(lambda database: database.put(self._owner, entry), has_room=True)
        except StoreUnavailable:
            return False

    async def get(self, kind: str, identity: str) -> Entry | None:
        """Find an entry."""
        return await self._store.run(lambda database: database.get(self._owner, kind, identity))

    async def delete(self, kind: str, identity: str) -> bool:
        """Remove an entry; return whether there was one."""
        return await self._store.run(lambda database: database.delete(self._owner, kind, identity))

    async def change(self, kind: str, identity: str, work: Callable[[Entry], Entry]) -> Entry | None:
        """Put what `work` makes of an entry in its place; `None` where there is none. `work` runs on another thread."""
        changing = partial(Database.change, owner=self._owner, kind=kind, identity=identity, work=work)
        return await self._store.run(changing, has_room=True)

    async def page(
        self,
        kind: str,
        *,
        labels: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        is_descending: bool = False,
    ) -> EntryPage | None:
        """List entries in the order of their making; `None` where `after` is none of them."""
        work = partial(Database.page, labels=labels or {}, after=after, limit=limit, is_descending=is_descending)
        return await self._store.run(lambda database: work(database, self._owner, kind))

    async def chain(self, kind: str, identity: str, label: str, most_bytes: int) -> list[Entry] | str | None:
        """Follow a label back, as `Database.chain` does."""
        return await self._store.run(lambda database: database.chain(self._owner, kind, identity, label, most_bytes))
