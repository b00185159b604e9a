"""From the engine's events to a response, whole or as a stream."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec
from msgspec import UNSET, structs

from gateway.api.exchange.constraint import structured_of
from gateway.api.exchange.detached import ResumableRendering
from gateway.api.http.problems import Problem, to_problem
from gateway.api.responses import events as told
from gateway.api.responses.begin import to_response
from gateway.api.responses.framing import NumberedEvent
from gateway.api.responses.items import ItemStatus
from gateway.api.responses.output import ItemStep, OutputItems, WrittenItem
from gateway.api.responses.parameters import SEALED
from gateway.api.responses.reply import (
    FailureCode,
    IncompleteDetails,
    ResponseFailure,
    ResponseInputTokens,
    ResponseObject,
    ResponseOutputTokens,
    ResponseUsage,
)
from gateway.api.responses.schema import ResponsesBody
from gateway.background import Detached
from gateway.engine import (
    Answer,
    Delta,
    EngineError,
    Finished,
    FinishReason,
    GenerateEvent,
    ModelCard,
    Started,
    ToolDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode
# An answer that ran out of time is cut off like one that ran out of tokens; there is no word of its own.
_CUT = frozenset({FinishReason.LENGTH, FinishReason.DEADLINE})
_CANCELLED = "cancelled"


class ResponseRendering(ResumableRendering):
    """Renders one response from its beginning on. Of a stream, only the events behind the number `after` are told.

    The stream of one that has ended before ends as it did, with `ended`; its events are numbered from `first` on. With
    `is_sealed` thoughts are told in one word, too.
    """

    holds_answers = True

    def __init__(
        self,
        begun: ResponseObject,
        *,
        after: int = -1,
        ended: ResponseObject | None = None,
        first: int = 0,
        is_sealed: bool = False,
    ) -> None:
        self._begun = begun
        self._after = after
        self._ended = ended
        self._output = OutputItems(begun.id.removeprefix("resp_"), is_sealed=is_sealed)
        self._is_running = begun.status == "in_progress"
        self._next = first
        self._head = b""
        self._last: Finished | None = None
        self._is_shaped = begun.text["format"]["type"] != "text"

    def to_frame(self, event: GenerateEvent | Detached) -> bytes:
        """Encode one event as SSE frames, also the first one of an answer in the background."""
        if isinstance(event, Detached):
            return self._tell(told.ResponseCreated, response=self._begun) + self._tell(
                told.ResponseQueued, response=self._begun
            )
        return self.to_piece(0, event)

    def to_piece(self, index: int, event: GenerateEvent) -> bytes:
        """Encode one event as SSE frames."""
        del index
        match event:
            case Delta() if self._head and not event.reasoning:
                return self._text(event.text)
            case Delta() | ToolDelta():
                return b"".join(self._piece(piece) for piece in self._output.add(event))
            case Started():
                return self._start(event)
            case Finished():
                self._last = event
                status: ItemStatus = "incomplete" if event.reason in _CUT else "completed"
                closed = b"" if self._output.open is None else self._end(self._output.open, status)
                kind = told.ResponseIncomplete if event.reason in _CUT else told.ResponseCompleted
                return closed + self._tell(kind, response=self._whole(event))

    def to_reply(self, answers: Mapping[int, Answer], usage: Usage) -> bytes:
        """Encode the whole response, whose events were noted or told."""
        del usage
        finished = answers[0].finished if answers else self._last
        if finished is None:
            raise ValueError("the answer is not finished")
        return _encode(self._whole(finished))

    def to_state(self) -> bytes:
        """Encode the response as far as it is."""
        status = "in_progress" if self._is_running else self._begun.status
        return _encode(structs.replace(self._begun, status=status, output=self._output.to_items("in_progress")))

    def to_broken(self, error: EngineError) -> bytes:
        """Encode what there is of a response that an error ended."""
        return _encode(self._broken(to_problem(error)))

    def to_failure(self, problem: Problem) -> bytes:
        """Encode the event that ends a stream which failed."""
        return self._tell(told.ResponseFailed, response=self._broken(problem))

    def note(self, event: GenerateEvent) -> None:
        """Take note of an event of a whole answer."""
        if isinstance(event, Delta | ToolDelta):
            for _ in self._output.add(event):
                pass
        elif isinstance(event, Finished):
            self._last = event
        else:
            self._is_running = True
            self._begun = structs.replace(self._begun, model=event.model or self._begun.model)

    def _start(self, started: Started) -> bytes:
        self.note(started)
        running = structs.replace(self._begun, status="in_progress")
        created = b"" if self._next else self._tell(told.ResponseCreated, response=running)
        return created + self._tell(told.ResponseInProgress, response=running)

    def _text(self, text: str) -> bytes:
        """Encode more of the message that is open; of a stream's events nearly all are of this kind."""
        if not text or self._output.open is None:
            return b""
        self._output.open.texts.append(text)
        number = self._next
        self._next += 1
        return b"" if number <= self._after else b'%b%d,"delta":%b}\n\n' % (self._head, number, _encode(text))

    def _piece(self, piece: ItemStep) -> bytes:
        item = piece.item
        match piece.step:
            case "begin":
                return self._begin(item)
            case "end":
                return self._end(item, "completed")
            case "more" if item.is_scored:
                place = {"item_id": item.id, "output_index": item.index}
                return self._tell(told.OutputTextDelta, **place, logprobs=piece.scores, delta=piece.text)
            case "more" if item.kind == "message":
                number = self._next
                self._next += 1
                frame = b'%b%d,"delta":%b}\n\n' % (self._head, number, _encode(piece.text))
                return b"" if number <= self._after else frame
            case "more" if item.kind == "reasoning":
                return self._tell(told.ThoughtDelta, item_id=item.id, output_index=item.index, delta=piece.text)
            case _:
                return self._tell(told.ArgumentsDelta, item_id=item.id, output_index=item.index, delta=piece.text)

    def _begin(self, item: WrittenItem) -> bytes:
        begun = item.to_item("in_progress", is_empty=True)
        added = self._tell(told.ItemAdded, output_index=item.index, item=begun)
        self._head = _delta_head(item) if item.kind == "message" and not item.is_scored else b""
        if item.kind == "function_call":
            return added
        return added + self._tell(told.PartAdded, item_id=item.id, output_index=item.index, part=item.part())

    def _end(self, item: WrittenItem, status: ItemStatus) -> bytes:
        self._head = b""
        place = {"item_id": item.id, "output_index": item.index}
        match item.kind:
            case "function_call":
                done = self._tell(told.ArgumentsDone, **place, arguments=item.text)
            case "reasoning":
                done = self._tell(told.ThoughtDone, **place, text=item.text)
            case _:
                done = self._tell(told.OutputTextDone, **place, logprobs=item.scores, text=item.text)
        if item.kind != "function_call":
            done += self._tell(told.PartDone, **place, part=item.part())
        return done + self._tell(told.ItemDone, output_index=item.index, item=item.to_item(status))

    def _tell(self, kind: Callable[..., NumberedEvent], **fields: object) -> bytes:
        """Encode the next event, unless the reader has it already."""
        number = self._next
        self._next += 1
        if number <= self._after:
            return b""
        event = kind(sequence_number=number, **fields)
        return b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), _encode(event))

    def _whole(self, finished: Finished) -> ResponseObject:
        if self._ended is not None:
            return self._ended
        is_cut = finished.reason in _CUT
        return structs.replace(
            self._begun,
            status="incomplete" if is_cut else "completed",
            completed_at=None if is_cut else int(time.time()),
            incomplete_details=IncompleteDetails() if is_cut else None,
            output=self._output.to_items("incomplete" if is_cut else "completed"),
            usage=_to_usage(finished.usage),
            x_structured=structured_of(finished) if self._is_shaped else UNSET,
        )

    def _broken(self, problem: Problem) -> ResponseObject:
        if self._ended is not None:
            return self._ended
        is_cancelled = problem.code == _CANCELLED
        return structs.replace(
            self._begun,
            status="cancelled" if is_cancelled else "failed",
            error=None if is_cancelled else ResponseFailure(_to_code(problem), problem.message),
            output=self._output.to_items("incomplete"),
        )


def to_rendering(body: ResponsesBody, card: ModelCard, request_id: str) -> ResponseRendering:
    """Begin the rendering of the response to a body."""
    return ResponseRendering(to_response(body, card, request_id), is_sealed=SEALED in (body.include or ()))


def _delta_head(item: WrittenItem) -> bytes:
    """Encode the beginning of every event with more of a message."""
    event = told.OutputTextDelta(sequence_number=0, item_id=item.id, output_index=item.index, delta="")
    fields = msgspec.json.decode(_encode(event))
    del fields["sequence_number"], fields["delta"]
    return b'event: %b\ndata: %b,"sequence_number":' % (fields["type"].encode(), _encode(fields)[:-1])


def _to_usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        usage.prompt_tokens,
        ResponseInputTokens(usage.cached_tokens),
        usage.completion_tokens,
        ResponseOutputTokens(usage.reasoning_tokens),
        usage.prompt_tokens + usage.completion_tokens,
    )


def _to_code(problem: Problem) -> FailureCode:
    """Say what went wrong in the API's few words."""
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_exceeded"
    return "server_error" if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_prompt"
