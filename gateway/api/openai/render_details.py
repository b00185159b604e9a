"""Renderings of answers that tell more than their text: a chunk for every token, also where it completes no text."""

from gateway.api.openai.details import Details, asks_details
from gateway.api.openai.render import ChoiceRendering
from gateway.api.openai.render_chat import ChatRendering
from gateway.api.openai.render_text import TextRendering
from gateway.api.openai.schema import ChatCompletionBody, CompletionBody
from gateway.engine import Delta, GenerateEvent, ModelCard, Started


def chat_rendering(body: ChatCompletionBody, card: ModelCard, request_id: str) -> ChatRendering:
    """Choose the rendering of a conversation's answers."""
    return (DetailedChatRendering if asks_details(body) else ChatRendering)(body, card, request_id)


def text_rendering(body: CompletionBody, card: ModelCard, request_id: str) -> TextRendering:
    """Choose the rendering of a completion's answers."""
    return (DetailedTextRendering if asks_details(body) else TextRendering)(body, card, request_id)


class _Detailed(ChoiceRendering):
    """Notes what is told beside the text, as the events come."""

    _details: Details

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event."""
        self._details.note(index, event)
        return super().to_piece(index, event)  # type: ignore[safe-super]  # that of the rendering beside this class

    def note(self, event: GenerateEvent) -> None:
        """Note when a whole answer begins."""
        if isinstance(event, Started):
            self._details.begin(event)


class DetailedChatRendering(_Detailed, ChatRendering):
    """Renders answers to a conversation, with details."""

    def _delta(self, index: int, event: Delta) -> bytes:
        return self._frame(self._piece(index, event)) if event.tokens or event.text else super()._delta(index, event)


class DetailedTextRendering(_Detailed, TextRendering):
    """Renders answers to prompts, with details."""

    def _delta(self, index: int, event: Delta) -> bytes:
        if not event.tokens and not event.text:
            return b""
        return self._tokens(index, event.text, event.logprobs, is_prompt=False)
