"""Rules about optional capabilities: images."""

from gateway.engine import (
    Capability,
    Chat,
    Engine,
    Image,
    Message,
    Part,
    Text,
)
from gateway.testing.contract.subject import Subject
from gateway.testing.contract.verdict import expect

# The smallest PNG: one white pixel.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)


class FeatureRules(Subject):
    """Each optional capability on the card works."""

    async def test_an_image_is_read(self, engine: Engine) -> None:
        """Kills: an image that is left out of the prompt."""
        self.require(engine, Capability.CHAT, Capability.VISION)
        without, with_image = [
            (await self.usage(engine, _chat(Text(self.text), *images))).prompt_tokens
            for images in ((), (Image(_PIXEL, "image/png"),))
        ]
        expect(with_image > without, f"A chat has {without} tokens, and {with_image} with an image.", Image)


def _chat(*parts: Part) -> Chat:
    return Chat((Message("user", parts),))
