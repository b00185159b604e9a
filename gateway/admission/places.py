"""The places of one model's batch and the tokens of its cache, counted."""

from collections import Counter

_SPARE_OF = 4


class Places:
    """Counts the places and tokens that are held, in all and by caller; a model has one place at least.

    The last places, a quarter of them at most, are spare: a caller that holds all others may be kept from them.
    """

    def __init__(self) -> None:
        self.running = 0
        self.tokens = 0
        self.total = 1
        self._cache_tokens = 0
        self._spare = 0
        self._held: Counter[str] = Counter()

    def resize(self, total: int, cache_tokens: int, spare: int) -> None:
        """Go by other numbers; places that are held stay so. Without `cache_tokens` only the places are counted."""
        self.total = max(total, 1)
        self._cache_tokens = cache_tokens
        self._spare = min(spare, self.total // _SPARE_OF)

    def fits(self, tokens: int) -> bool:
        """Tell whether a place is free, and the cache has room for `tokens`; alone, any request fits."""
        if self.running >= self.total:
            return False
        return not self.running or not self._cache_tokens or self.tokens + tokens <= self._cache_tokens

    def is_at_spare(self, caller: str) -> bool:
        """Tell whether `caller` holds all places but the spare ones."""
        return self._held.get(caller, 0) >= self.total - self._spare

    def take(self, caller: str, tokens: int) -> None:
        """Take a place with its tokens."""
        self.running += 1
        self.tokens += tokens
        self._held[caller] += 1

    def adjust(self, tokens: int) -> None:
        """Add `tokens` to those that are held, or take them away where they are negative."""
        self.tokens += tokens

    def give_back(self, caller: str, tokens: int) -> None:
        """Give back a place with its tokens."""
        self.running -= 1
        self.tokens -= tokens
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
