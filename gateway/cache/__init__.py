"""Answers to deterministic requests: kept, shared while they are made, and told again as a stream."""

from gateway.cache.cache import Cache
from gateway.cache.key import CachePolicy, cache_policy, key_of
from gateway.cache.memory_store import MemoryAnswerStore
from gateway.cache.replay import CacheStatus, Replay
from gateway.cache.settings import CacheSettings
from gateway.cache.single_flight import Flight, StartAnswer
from gateway.cache.store import AnswerStore

__all__ = [
    "AnswerStore",
    "Cache",
    "CachePolicy",
    "CacheSettings",
    "CacheStatus",
    "Flight",
    "MemoryAnswerStore",
    "Replay",
    "StartAnswer",
    "cache_policy",
    "key_of",
    "to_cache",
]


def to_cache(settings: CacheSettings) -> Cache:
    """Make the cache that the settings describe."""
    if settings.store_url is not None:
        from gateway.cache.redis_store import RedisAnswerStore  # noqa: PLC0415 - redis is for those who share a store

        return Cache(RedisAnswerStore(settings.store_url, settings.ttl_seconds, seconds=settings.store_seconds))
    return Cache(MemoryAnswerStore(settings.max_bytes, settings.ttl_seconds))
