"""From the engine's events to a completion, whole or in chunks."""

from collections.abc import Mapping

from msgspec import UNSET

from gateway.api.openai.logprobs import TextLength, say_bytes, say_id, to_prompt_logprobs, to_text_logprobs
from gateway.api.openai.render import ChoiceRendering, encode
from gateway.api.openai.reply import CompletionReply, CompletionUsage, TextChoice, TextReason
from gateway.api.openai.schema import CompletionBody
from gateway.engine import (
    Answer,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    ModelCard,
    Started,
    TokenLogprob,
    Usage,
)


class TextRendering(ChoiceRendering):
    """Renders the answers to prompts, which `n` answers each follow one after another."""

    def __init__(self, body: CompletionBody, card: ModelCard, request_id: str) -> None:
        super().__init__(body, card, f"cmpl-{request_id}")
        self._n = body.n or 1
        self._prompts = (body.prompt,) if isinstance(body.prompt, str) else body.prompt
        self._has_echo = bool(body.echo)
        self._is_cut = body.truncate_prompt_tokens is not None
        self._has_logprobs = body.logprobs is not None
        self._has_prompt = body.prompt_logprobs is not None
        self._is_silent = body.max_tokens == 0
        self._say = say_id if body.return_tokens_as_token_ids else say_bytes
        self._lengths: dict[int, TextLength] = {}
        self._tail = b',"logprobs":null,"finish_reason":null}' + self._end

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event: the prompt comes first, where it is echoed, and a chunk with the reason last."""
        match event:
            case Delta():
                return b"" if self._is_silent else self._delta(index, event)
            case Started():
                return self._begin(index, event)
            case Finished():
                return self._end_of(index, event)
            case _:
                return b""

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode whole answers."""
        self._note_model(next(iter(answers.values())).started)
        return encode(
            CompletionReply(
                id=self._id,
                created=self._created,
                model=self._model,
                system_fingerprint=self._fingerprint,
                choices=[self._whole(index, answer) for index, answer in sorted(answers.items())],
                usage=self._usage(usage),
                timings=self._timings(usage),
            )
        )

    def _begin(self, index: int, started: Started) -> bytes:
        self._note_model(started)
        self._heads[index] = self._head + b'{"index":%d,"text":' % index
        self._lengths[index] = TextLength()
        if not self._has_echo:
            return b""
        tokens = (started.prompt_logprobs or ()) if self._has_logprobs else ()
        return self._tokens(index, self._prompt(index, started), tokens, is_prompt=True)

    def _delta(self, index: int, event: Delta) -> bytes:
        if event.logprobs:
            return self._tokens(index, event.text, event.logprobs, is_prompt=False)
        return b"%b%b%b" % (self._heads[index], encode(event.text), self._tail) if event.text else b""

    def _end_of(self, index: int, event: Finished) -> bytes:
        reason, structured = self._reason(event), self._structured(event)
        return self._frame(
            TextChoice(index=index, text="", logprobs=None, finish_reason=reason, x_structured=structured)
        )

    def _tokens(self, index: int, text: str, tokens: tuple[TokenLogprob, ...], *, is_prompt: bool) -> bytes:
        """Encode a chunk with its tokens, which go on where the ones before ended."""
        prompt, rest = (tokens, ()) if is_prompt else ((), tokens)
        logprobs = to_text_logprobs(prompt, rest, self._lengths[index], self._say) if tokens else None
        return self._frame(TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=None))

    def _whole(self, index: int, answer: Answer) -> TextChoice:
        prompt = answer.started.prompt_logprobs or ()
        text = self._prompt(index, answer.started) if self._has_echo else ""
        scored, shown = prompt if self._has_echo else (), () if self._is_silent else answer.logprobs
        return TextChoice(
            index=index,
            text=text if self._is_silent else text + answer.text,
            logprobs=to_text_logprobs(scored, shown, say=self._say) if self._has_logprobs else None,
            finish_reason=self._reason(answer.finished),
            prompt_logprobs=to_prompt_logprobs(prompt) if self._has_prompt else UNSET,
            token_ids=self._ids(answer),
            prompt_token_ids=list(answer.started.prompt_ids or ()) if self._has_ids else UNSET,
        )

    def _prompt(self, index: int, started: Started) -> str:
        """Find the text of an answer's prompt; of one that came as tokens, or was cut, only the engine knows it."""
        prompt = self._prompts[index // self._n]
        if isinstance(prompt, str) and not self._is_cut:
            return prompt
        return "".join(token.text for token in started.prompt_logprobs or ())

    def _reason(self, finished: Finished) -> TextReason:
        is_cut = self._is_silent or finished.reason in (FinishReason.LENGTH, FinishReason.DEADLINE)
        return "length" if is_cut else "stop"

    def _chunk(self, usage: CompletionUsage | None = None) -> CompletionReply:
        return CompletionReply(
            id=self._id,
            created=self._created,
            model=self._model,
            system_fingerprint=self._fingerprint,
            choices=[],
            usage=usage or UNSET,
        )
