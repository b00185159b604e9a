"""Answers to deterministic requests: kept, shared while they are made, and told again as a stream."""

from gateway.cache.cache import Cache
from gateway.cache.flight import Generate
from gateway.cache.key import Wish, key_of, read_wish
from gateway.cache.memory import MemoryStore
from gateway.cache.replay import CacheStatus, Replay
from gateway.cache.settings import CacheSettings
from gateway.cache.store import Store

__all__ = [
    "Cache",
    "CacheSettings",
    "CacheStatus",
    "Generate",
    "MemoryStore",
    "Replay",
    "Store",
    "Wish",
    "key_of",
    "read_wish",
]
