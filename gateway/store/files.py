"""Files as the event loop sees them: the store has their names and times, a folder their bytes."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from loguru import logger

from gateway.store.entry import StoreFileError, StoreUnavailable
from gateway.store.file_table import FilePage, FileRoom, FileTable, QuotaExceeded
from gateway.store.folder import Folder
from gateway.store.records import FilePurpose, FileRecord
from gateway.store.settings import FileSettings, StoreSettings
from gateway.store.store import Store

T = TypeVar("T")

# What is written at once, beside the event loop.
_PIECE = 256 * 1024
# Files without a name may take memory: the folder for temporary files often does.
_UNNAMED_BYTES = 64 * 1024 * 1024
# What was begun so long before the longest upload is on its way in no longer.
_PATIENCE_SECONDS = 3_600.0
_FULL = "the file cannot be stored at the moment; try again"


def to_folder(files: FileSettings, store: StoreSettings) -> Folder:
    """Find where files lie: in their own folder, or beside the file of the store."""
    beside = None if store.file is None else f"{store.file}.files"
    folder = files.folder or beside
    return Folder(None if store.file is None or folder is None else Path(folder))


class Upload:
    """A file on its way in: write it in pieces, and keep or drop it."""

    def __init__(self, folder: Folder, identity: str, descriptor: int) -> None:
        self.id = identity
        self.size = 0
        self._folder = folder
        self.is_kept = False
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self._held = 0

    async def write(self, piece: bytes) -> None:
        """Write on; raise `StoreUnavailable` where the disk is full."""
        self._pieces.append(piece)
        self._held += len(piece)
        self.size += len(piece)
        if self._held >= _PIECE:
            await self._flush()

    async def keep(self) -> None:
        """Have it on the disk, under its id; raise `StoreUnavailable`."""
        await self._flush()
        await beside_disk(partial(self._folder.keep, self.id, self._descriptor))
        self.is_kept = True

    async def drop(self) -> None:
        """Give it up, unless it is kept."""
        if not self.is_kept:
            await beside_disk(partial(self._folder.drop, self.id, self._descriptor))

    async def _flush(self) -> None:
        pieces, self._pieces, self._held = self._pieces, [], 0
        await beside_disk(partial(_write, self._descriptor, b"".join(pieces)))


class Files:
    """The files of all owners; `room` is read anew for each. Methods raise `StoreUnavailable`."""

    def __init__(self, store: Store, folder: Folder, settings: Callable[[], FileSettings]) -> None:
        self.store = store
        self.folder = folder
        self._settings = settings
        self._coming: dict[str, int] = {}

    @property
    def settings(self) -> FileSettings:
        """The settings in force."""
        return self._settings()

    @property
    def room(self) -> FileRoom:
        """How much there may be."""
        settings = self.settings
        most = settings.max_bytes if self.folder.path is not None else min(settings.max_bytes, _UNNAMED_BYTES)
        return FileRoom(all_bytes=most, bytes=min(settings.bytes_per_key, most), files=settings.per_key)

    async def begin(self, owner: str, identity: str) -> Upload:
        """Begin a file; raise `QuotaExceeded` where the owner has no room for any."""
        await self.run(lambda table: table.check_room(owner, self.room, 1))
        return await self.open_new(identity)

    async def open_new(self, identity: str) -> Upload:
        """Begin a file of the service itself, whose room is taken already."""
        return Upload(self.folder, identity, await beside_disk(partial(self.folder.begin, identity)))

    def reserve(self, owner: str, size: int) -> None:
        """Count bytes that are on their way in, or no longer are, where negative; raise `QuotaExceeded`."""
        room, coming = self.room, self._coming.get(owner, 0) + size
        if size > 0 and (coming > room.bytes or sum(self._coming.values()) + size > room.all_bytes):
            limits = f"files.bytes_per_key is {room.bytes}, files.max_bytes {room.all_bytes}"
            raise QuotaExceeded(f"more is on its way in than there is room for: {limits}")
        self._coming[owner] = coming
        if not coming:
            del self._coming[owner]

    async def add(self, owner: str, upload: Upload, record: FileRecord) -> None:
        """Keep an upload; raise `QuotaExceeded`."""
        await upload.keep()
        try:
            await self.run(lambda table: table.add(owner, record, self.room), has_room=True)
        except BaseException:
            await asyncio.shield(beside_disk(partial(self.folder.remove, record.id)))
            raise

    async def get(self, owner: str, identity: str) -> FileRecord | None:
        """Find a file."""
        return await self.run(lambda table: table.get(owner, identity))

    async def page(
        self, owner: str, *, purpose: FilePurpose | None, after: str | None, limit: int, is_descending: bool
    ) -> FilePage | None:
        """List files in the order of their making; `None` where `after` is none of them."""
        asked = partial(FileTable.page, purpose=purpose, after=after, limit=limit, is_descending=is_descending)
        return await self.run(lambda table: asked(table, owner))

    async def open(self, identity: str) -> int:
        """Return a descriptor of a file's bytes, which the caller closes; raise `StoreUnavailable`."""
        return await beside_disk(partial(self.folder.open, identity))

    async def delete(self, owner: str, identity: str) -> bool:
        """Remove a file; return whether there was one. Raise `FileInUse`."""
        found = await self.run(lambda table: table.delete(owner, identity))
        if found:
            await beside_disk(partial(self.folder.remove, identity))
        return found

    async def sweep(self) -> None:
        """Remove what is too old, and bytes that belong to no file. Of processes with one folder one may do that."""
        now = time.time()
        for identity in await self.run(lambda table: table.expire(now)):
            await beside_disk(partial(self.folder.remove, identity))
        known = await self.run(FileTable.ids)
        await beside_disk(partial(self.folder.sweep, known, now - self.settings.upload_seconds - _PATIENCE_SECONDS))

    async def aclose(self) -> None:
        """Give the folder back; files without a name are gone."""
        self.folder.close()

    async def run(self, work: Callable[[FileTable], T], *, has_room: bool = False) -> T:
        """Return what `work` makes of the table of files, on the store's thread."""
        return await self.store.run(lambda database: work(FileTable(database)), has_room=has_room)


async def beside_disk(work: Callable[[], T]) -> T:
    """Return what `work` returns, which waits for a disk; raise `StoreUnavailable`."""
    doing = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})  # it may still use a descriptor that is closed next
        raise
    except (OSError, StoreFileError) as error:
        logger.bind(event="file_failed").warning("a file cannot be stored or read: {}", error)
        raise StoreUnavailable(_FULL) from None


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
