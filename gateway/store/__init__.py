"""Answers, conversations, files and batches that are stored for callers: in SQLite, each owner's apart, and bounded."""

from gateway.store.batch_table import BatchPage, BatchTable, OwnedBatch, TooManyBatches
from gateway.store.database import Database
from gateway.store.entry import Entry, EntryPage, StoreFileError, StoreUnavailable
from gateway.store.file import check_file, hold
from gateway.store.file_table import FileInUse, FilePage, FileRoom, FileTable, QuotaExceeded
from gateway.store.files import Files, Upload, beside_disk, to_folder
from gateway.store.folder import Folder
from gateway.store.records import (
    UNFINISHED,
    BatchFault,
    BatchRecord,
    BatchStatus,
    FilePurpose,
    FileRecord,
    LineResult,
    TokenSums,
)
from gateway.store.settings import BatchSettings, FileSettings, StoreSettings
from gateway.store.store import Shelf, Store

__all__ = [
    "UNFINISHED",
    "BatchFault",
    "BatchPage",
    "BatchRecord",
    "BatchSettings",
    "BatchStatus",
    "BatchTable",
    "Database",
    "Entry",
    "EntryPage",
    "FileInUse",
    "FilePage",
    "FilePurpose",
    "FileRecord",
    "FileRoom",
    "FileSettings",
    "FileTable",
    "Files",
    "Folder",
    "LineResult",
    "OwnedBatch",
    "QuotaExceeded",
    "Shelf",
    "Store",
    "StoreFileError",
    "StoreSettings",
    "StoreUnavailable",
    "TokenSums",
    "TooManyBatches",
    "Upload",
    "beside_disk",
    "check_file",
    "hold",
    "to_folder",
]
