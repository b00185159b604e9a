"""Answers to deterministic requests: kept, shared while they are made, and told again as a stream."""

from gateway.cache.cache import Cache
from gateway.cache.key import Wish, key_of, read_wish
from gateway.cache.memory_store import MemoryStore
from gateway.cache.replay import CacheStatus, Replay
from gateway.cache.settings import CacheSettings
from gateway.cache.single_flight import Generate
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
    "to_cache",
]


def to_cache(settings: CacheSettings) -> Cache:
    """Make the cache that the settings describe."""
    if settings.store_url is not None:
        from gateway.cache.redis_store import SharedStore  # noqa: PLC0415 - redis is for those who share a store

        return Cache(SharedStore(settings.store_url, settings.ttl_seconds, seconds=settings.store_seconds))
    return Cache(MemoryStore(settings.max_bytes, settings.ttl_seconds))
