"""Blocks of the cache, and the sequences that hold them: ints only, no tensors.

A block is free, or held by sequences, or idle: not held, but full, and found by the hash of the tokens up to its
end. Such hashes are chained, so a sequence that begins like another one starts with its blocks; the salt and
the adapter of a sequence begin its chain, so no prompt finds blocks of another. A block that may be found is never
written again.

Paging as in PagedAttention (Kwon et al. 2023), chained prefix hashes as in vLLM.
"""

from array import array
from collections import OrderedDict
from hashlib import blake2b

from gateway_hf.scheduling.sequence import Sequence

_HASH_BYTES = 16


class Blocks:
    """Hands out `count` blocks of `size` tokens.

    `hits` counts the tokens that were found in the cache, `evictions` the idle blocks that were written over; none from
    `reached` on was ever handed out.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        self.hits = 0
        self.evictions = 0
        self.reached = 0
        self._free = list(range(count))[::-1]
        self._idle: OrderedDict[int, None] = OrderedDict()  # the least recently used first
        self._references = [0] * count
        self._keys: list[bytes | None] = [None] * count
        self._findable: dict[bytes, int] = {}
        self._holders: set[Sequence] = set()

    @property
    def free(self) -> int:
        """How many blocks can be had without harm to those that run; may be asked from any thread."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """How many blocks are held by sequences; may be asked from any thread."""
        return self.count - self.free

    def fits(self, sequence: Sequence, tokens: int) -> bool:
        """Whether a sequence that holds nothing could have room for `tokens`, with what it would reuse."""
        found = self._find(sequence)
        idle = sum([not self._references[block] for block in found])
        return self._blocks(tokens) - len(found) <= self.free - idle

    def found(self, sequence: Sequence) -> int:
        """Count the tokens that `reuse` would find for a sequence that holds nothing; may be asked from any thread."""
        return len(self._find(sequence)) * self.size

    def reuse(self, sequence: Sequence) -> int:
        """Let a sequence go on with full blocks of the cache that hold its next tokens; return how many tokens.

        At least one token stays pending. The blocks that the sequence had there, as room or filled in part, are given
        back.
        """
        found = self._find(sequence)
        if not found:
            return 0
        for block in found:
            self._hold(block)
        start = sequence.computed // self.size
        room = sequence.blocks[start : start + len(found)]
        sequence.blocks[start : start + len(found)] = found
        self._give_back(room)
        self._holders.add(sequence)
        sequence.sealed = start + len(found)
        tokens = sequence.sealed * self.size - sequence.computed
        sequence.computed += tokens
        self.hits += tokens
        return tokens

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        """Make room for `tokens` more than are computed, or return False and change nothing."""
        missing = self._blocks(sequence.computed + tokens) - len(sequence.blocks)
        if missing <= 0:
            return True
        if missing > self.free:
            return False
        self._holders.add(sequence)
        for _ in range(missing):
            block = self._free.pop() if self._free else self._evict()
            self._hold(block)
            self.reached = max(self.reached, block + 1)
            sequence.blocks.append(block)
        return True

    def seal(self, sequence: Sequence) -> None:
        """Let others find the blocks that were filled; of two equal blocks the older one is found."""
        full = sequence.computed // self.size
        if full <= sequence.sealed:
            return
        self._extend_chain(sequence, full)
        for at in range(sequence.sealed, full):
            block, key = sequence.blocks[at], sequence.chain[at]
            if self._findable.setdefault(key, block) == block:
                self._keys[block] = key
        sequence.sealed = full

    def release(self, sequence: Sequence) -> None:
        """Take all blocks of a sequence back, the last one first: it is evicted first. Harmless when it has none."""
        blocks, sequence.blocks = sequence.blocks, []
        sequence.computed = sequence.sealed = 0
        self._holders.discard(sequence)
        self._give_back(blocks)

    def scrap(self, sequence: Sequence) -> None:
        """Take all blocks of a sequence back for good: their contents may be broken, so no prompt may find them."""
        for block in sequence.blocks:
            self._hide(block)
        self.release(sequence)

    def check(self) -> None:
        """Raise `RuntimeError` unless every block is in one state, rightly counted, and found by its own hash."""
        references = [0] * self.count
        for sequence in self._holders:
            for block in sequence.blocks:
                references[block] += 1
            if len(set(sequence.blocks)) != len(sequence.blocks) or sequence.computed > self._room(sequence):
                raise RuntimeError(f"a sequence holds {sequence.blocks} for {sequence.computed} tokens")
        if references != self._references:
            raise RuntimeError(f"references are {self._references}, not {references}")
        held = [block for block in range(self.count) if references[block]]
        if sorted([*self._free, *self._idle, *held]) != list(range(self.count)):
            raise RuntimeError(f"free {self._free}, idle {list(self._idle)} and held {held} are not all blocks")
        if {key: block for block, key in enumerate(self._keys) if key is not None} != self._findable:
            raise RuntimeError("the hashes of the blocks and the blocks of the hashes differ")
        if any(self._keys[block] for block in self._free) or not all(self._keys[block] for block in self._idle):
            raise RuntimeError("a free block can be found, or an idle one cannot")

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.size)

    def _room(self, sequence: Sequence) -> int:
        return len(sequence.blocks) * self.size

    def _find(self, sequence: Sequence) -> list[int]:
        """Return the longest run of findable blocks from the one on that `computed` is in.

        A prompt whose tokens are scored has to be read, and finds nothing.
        """
        start, last = sequence.computed // self.size, (len(sequence.tokens) - 1) // self.size
        found: list[int] = []
        if start >= last or sequence.scoring:
            return found
        self._extend_chain(sequence, last)
        for at in range(start, last):
            block = self._findable.get(sequence.chain[at])
            if block is None:
                break
            found.append(block)
        return found

    def _extend_chain(self, sequence: Sequence, blocks: int) -> None:
        """Hash the tokens of a sequence up to its first `blocks` full blocks; cryptographic, so that none is forged."""
        chain, known = sequence.chain, len(sequence.chain)
        if blocks <= known:
            return
        last = chain[-1] if chain else _first_link(sequence)
        numbers = array("I", sequence.tokens[known * self.size : blocks * self.size])
        content, step = numbers.tobytes(), self.size * numbers.itemsize
        for start in range(0, len(content), step):
            last = blake2b(last + content[start : start + step], digest_size=_HASH_BYTES).digest()
            chain.append(last)

    def _hold(self, block: int) -> None:
        if not self._references[block]:
            self._idle.pop(block, None)
        self._references[block] += 1

    def _give_back(self, blocks: list[int]) -> None:
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            if self._keys[block] is None:
                self._free.append(block)
            else:
                self._idle[block] = None

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        self._hide(block)
        self.evictions += 1
        return block

    def _hide(self, block: int) -> None:
        key = self._keys[block]
        if key is not None:
            del self._findable[key]
            self._keys[block] = None


def _first_link(sequence: Sequence) -> bytes:
    """Hash what keeps a sequence from others of the same tokens; apart from blocks, so that no salt stands for one."""
    salt = sequence.salt.encode(errors="surrogatepass")
    adapter = sequence.adapter.to_bytes(4, "little") if sequence.adapter else b""
    return blake2b(salt, digest_size=_HASH_BYTES, key=adapter, person=b"salt").digest()
