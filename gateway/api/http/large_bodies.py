"""Large bodies, in and out: they share a part of the event loop's time, and leave the rest to all others."""

from gateway.flow.turns import Turns

# Bytes that take some milliseconds to read, and to answer.
LARGE = 256 * 1024
# Bytes a second: each takes the loop some 5 to 10 ns, so it is free for others most of the time.
turns = Turns(rate=32 * 2**20)
# A body counts twice: it is read, and handed on to an engine.
PASSES = 2
