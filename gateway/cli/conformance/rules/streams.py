"""Streams: that they say what whole answers say, frame by frame."""

import msgspec

from gateway.cli.conformance.peer import Peer, PeerStream
from gateway.cli.conformance.rule import Absent, RuleBroken, expect, rule
from gateway.cli.conformance.rules.answers import PLAIN, SAID, choice, content

_WIDE = "Repeat exactly: naïve café 東京 👩‍👩‍👧 Ω"


async def _whole_stream(peer: Peer, said: str, **body: object) -> PeerStream:
    """Read a stream; raise `RuleBroken` where it is none, or a frame is no JSON object."""
    try:
        frames = await peer.stream(said, **body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RuleBroken(f"a frame is no JSON: {error}") from error
    expect(frames.status == 200, f"answered {frames.status}")
    expect(frames.chunks and all(isinstance(chunk, dict) for chunk in frames.chunks), "a frame is no object")
    failed = next((chunk["error"] for chunk in frames.chunks if "error" in chunk), None)
    expect(failed is None, f"a frame says {failed}")
    return frames


@rule("streams")
async def a_stream_is_one(peer: Peer) -> str:
    """A stream is `text/event-stream` of JSON chunks with one id, and ends with `[DONE]`."""
    frames = await _whole_stream(peer, SAID, **PLAIN)
    kind = frames.headers.get("content-type", "")
    expect(kind.startswith("text/event-stream"), f"its content type is {kind!r}")
    objects = {chunk.get("object") for chunk in frames.chunks}
    expect(objects == {"chat.completion.chunk"}, f"its objects are {objects}")
    ids = {chunk.get("id") for chunk in frames.chunks}
    expect(len(ids) == 1, f"its ids are {ids}")
    expect(frames.closed, "ends without [DONE]")
    return f"{len(frames.chunks)} frames"


@rule("streams")
async def the_first_chunk_has_the_role(peer: Peer) -> None:
    """The first chunk of a choice says the role, and the last one alone the finish_reason."""
    choices = (await _whole_stream(peer, SAID, **PLAIN)).choices()
    expect(choices[0]["delta"].get("role") == "assistant", f"the first delta is {choices[0]['delta']}")
    reasons = [each.get("finish_reason") for each in choices]
    expect(reasons[-1] and not any(reasons[:-1]), f"the finish_reasons are {reasons}")


@rule("streams")
async def a_stream_says_what_the_whole_says(peer: Peer) -> None:
    """The chunks joined are the whole answer, with its finish_reason."""
    whole = await peer.chat(SAID, seed=7, **PLAIN)
    frames = await _whole_stream(peer, SAID, seed=7, **PLAIN)
    expect(frames.joined() == content(whole), f"{frames.joined()[:80]!r} for {content(whole)[:80]!r}")
    ended = choice(whole)["finish_reason"]
    expect(frames.reason() == ended, f"{frames.reason()!r} for {ended!r}")


@rule("streams")
async def characters_stay_whole(peer: Peer) -> None:
    """No character is torn between two chunks."""
    whole = content(await peer.chat(_WIDE, temperature=0, max_tokens=48))
    frames = await _whole_stream(peer, _WIDE, temperature=0, max_tokens=48)
    torn = frames.joined().count("\N{REPLACEMENT CHARACTER}") > whole.count("\N{REPLACEMENT CHARACTER}")
    expect(not torn, f"the stream says {frames.joined()[:80]!r}, the whole answer {whole[:80]!r}")


@rule("streams")
async def usage_is_streamed_when_asked_for(peer: Peer) -> None:
    """With `stream_options.include_usage` a last chunk without choices has the usage of the whole answer."""
    frames = await _whole_stream(peer, SAID, stream_options={"include_usage": True}, **PLAIN)
    usage = frames.usage()
    expect(usage, "no frame has a usage")
    expect(not frames.chunks[-1].get("choices"), "the last frame has choices")
    whole = (await peer.chat(SAID, **PLAIN)).body["usage"]
    names = [f"{name}_tokens" for name in ("prompt", "completion", "total")]
    told = [[each.get(name) for name in names] for each in (usage or {}, whole)]
    expect(told[0] == told[1], f"{told[0]} streamed, {told[1]} whole")


@rule("streams", "should")
async def usage_is_not_streamed_unasked(peer: Peer) -> None:
    """Without `include_usage` no chunk has a usage."""
    frames = await _whole_stream(peer, SAID, **PLAIN)
    expect(frames.usage() is None, f"a frame has {frames.usage()}")


@rule("streams")
async def several_streamed_answers_stay_apart(peer: Peer) -> None:
    """The chunks of `n` streamed answers name their choice, and each choice ends."""
    if not (await peer.chat(SAID, n=2, max_tokens=4)).ok:
        raise Absent("n = 2 is refused")
    frames = await _whole_stream(peer, SAID, n=2, temperature=1, max_tokens=8)
    reasons = [frames.reason(index) for index in (0, 1)]
    expect(all(reasons), f"the finish_reasons are {reasons}")
