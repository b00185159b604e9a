"""The keys and values of what the model has read, one cache a sequence, grown as the sequence grows."""

from transformers import DynamicCache, PreTrainedConfig

from gateway_hf.sequence import Sequence


class Caches:
    """Holds the cache of every sequence that runs."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self._config = config
        self._caches: dict[Sequence, DynamicCache] = {}

    def of(self, sequence: Sequence) -> DynamicCache:
        """Return the cache of a sequence; a new one is empty."""
        if sequence not in self._caches:
            self._caches[sequence] = DynamicCache(config=self._config)
        return self._caches[sequence]

    def free(self, sequence: Sequence) -> None:
        """Drop the cache of a sequence; harmless when it has none."""
        self._caches.pop(sequence, None)
