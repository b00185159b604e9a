"""`POST /v1/replay/{id}`: run a recorded request again, and say where the texts part."""

from typing import Annotated

from litestar import post
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_200_OK
from msgspec import structs

from gateway.api.admin.requests import Id
from gateway.api.exchange.answer import HttpRequest
from gateway.api.http.access import ADMIN, caller_of
from gateway.api.http.headers import read_head, read_timeouts
from gateway.api.http.problems import Problem
from gateway.api.http.sse import while_connected
from gateway.api.reference.errors import ENGINE, GENERATION, KEY, error_responses
from gateway.api.replay.schema import AnswerOutline, ReplayedAnswer, ReplayedRequest, TextParting
from gateway.auth import Caller
from gateway.cache import CachePolicy
from gateway.engine import GenerateEvent, system_fingerprint
from gateway.flow.deadline import Timeouts
from gateway.inflight import Options
from gateway.service import Inference
from gateway.service.records import RecordedRequest, compare
from gateway.service.shadow import Recording
from gateway.telemetry import current_record
from gateway.telemetry import request_id as own_id

_SHOWN = 200

Anyway = Annotated[
    bool, QueryParameter(description="Whether to run a request again whose answer is drawn anew each time.")
]


@post(
    "/v1/replay/{request_id:str}",
    status_code=HTTP_200_OK,
    opt=ADMIN,
    operation_id="replayRequest",
    tags=["requests"],
    summary="Run a recorded request again",
    description="Run one of the last requests again, with all its answers, at the model that answered it, and say where"
    " the texts part. Requests are recorded in memory, for admins only, where `replay.requests` says how many. A"
    " replay goes past the answer cache, and counts for the key that asks for it.",
    response_description="Both answers, compared.",
    responses=error_responses(*KEY, *ENGINE, *GENERATION, "not_found", "not_repeatable"),
)
async def replay(
    request: HttpRequest,
    inference: NamedDependency[Inference],
    request_id: Id,
    anyway: Anyway = False,  # noqa: FBT002 - as above, of the URL
) -> ReplayedRequest:
    """Run a request again; raise `Problem` where there is no record of it, or no use in it, and `EngineError`."""
    found = inference.records.find(request_id)
    if not found:
        why = "it is unknown, or went since others came" if inference.records.is_on else "replay.requests is 0"
        raise Problem("not_found", f"there is no record of that request: {why}")
    if not anyway and not all(record.is_repeatable for record in found):
        why = "its answer is drawn anew each time, without a seed; ask with ?anyway=true to run it all the same"
        raise Problem("not_repeatable", f"this request cannot repeat itself: {why}")
    caller, timeouts = caller_of(request.scope), read_timeouts(read_head(request.scope), Timeouts())

    async def run() -> list[ReplayedAnswer]:
        return [await _again(inference, caller, timeouts, record) for record in found]

    return ReplayedRequest(id=own_id.get(), request=request_id, answers=await while_connected(request.receive, run()))


async def _again(inference: Inference, caller: Caller, timeouts: Timeouts, record: RecordedRequest) -> ReplayedAnswer:
    target = inference.router.find_named(record.model, caller)
    current_record().model = target.card.name
    asked = structs.replace(record.request, id=own_id.get(), model=target.card.name, trace=None)
    options = Options(timeouts=timeouts, cache_policy=CachePolicy.NO_STORE, is_recorded=False)
    made = Recording()
    async for event in inference.generate(inference.admit(asked, caller, target, options)):
        if isinstance(event, GenerateEvent):
            made.add(event)
    card = target.hosted.answers_to(target.card.name) or target.card
    then, parting = record.answered, compare(record.answered, made)
    return ReplayedAnswer(
        id=record.id,
        model=record.model,
        key=record.caller or None,
        created=record.created,
        repeatable=record.is_repeatable,
        same=parting is None,
        parting=None
        if parting is None
        else TextParting(
            character=parting.character,
            token=parting.token,
            then=then.text[parting.character :][:_SHOWN],
            now=made.text[parting.character :][:_SHOWN],
        ),
        then=_outline(then, record.fingerprint),
        now=_outline(made, system_fingerprint(card)),
    )


def _outline(answer: Recording, fingerprint: str | None) -> AnswerOutline:
    return AnswerOutline(
        tokens=sum(tokens for _, tokens in answer.pieces),
        finish_reason=None if answer.finished is None else answer.finished.reason.value,
        system_fingerprint=fingerprint,
    )
