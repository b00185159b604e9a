"""Answers and conversations that are stored for callers: in SQLite, each owner's apart, bounded in age and bytes."""

from gateway.store.database import Database
from gateway.store.entry import Entry, EntryPage, StoreFileError, StoreUnavailable
from gateway.store.file import check_file, hold
from gateway.store.settings import StoreSettings
from gateway.store.store import Shelf, Store

__all__ = [
    "Database",
    "Entry",
    "EntryPage",
    "Shelf",
    "Store",
    "StoreFileError",
    "StoreSettings",
    "StoreUnavailable",
    "check_file",
    "hold",
]
