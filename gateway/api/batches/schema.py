"""Bodies and answers of `/v1/batches`, in OpenAI's shapes."""

import re
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.reference.examples import REQUEST_ID
from gateway.store import BatchRecord, BatchStatus

BATCH_ID = f"batch_{REQUEST_ID}"
_FILE = f"file-{REQUEST_ID}"
_CREATED = 1_767_225_600
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"([0-9]{1,6})([smhd])")
MOST_SECONDS = 2_592_000

BatchLabels = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
_Moment = int | None


class OutputExpiry(Struct, frozen=True, kw_only=True):
    """When the files that a batch writes go."""

    anchor: Annotated[Literal["created_at"], Meta(description="From the moment when they are made.")]
    seconds: Annotated[
        int, Meta(ge=3_600, le=MOST_SECONDS, description="Seconds after which they go.", examples=[86_400])
    ]


class BatchBody(ApiBody, frozen=True, kw_only=True):
    """A batch to be made."""

    route: ClassVar[str] = "/v1/batches"
    generates: ClassVar[bool] = False

    input_file_id: Annotated[
        str, Meta(min_length=1, max_length=128, description="The file of its lines.", examples=[_FILE])
    ]
    endpoint: Annotated[
        Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"],
        Meta(description="The route that answers all lines.", examples=["/v1/chat/completions"]),
    ]
    completion_window: Annotated[
        str,
        Meta(
            pattern="^[0-9]{1,6}[smhd]$",
            description="How long it may take, up to 30 days; then it expires with what there is.",
            examples=["24h"],
        ),
    ]
    metadata: Annotated[BatchLabels | None, Meta(description="Labels. Left out: none.", examples=[{"run": "7"}])] = None
    output_expires_after: Annotated[
        OutputExpiry | None,
        Meta(
            description="When the files that it writes go. Left out: after `files.ttl_seconds` of the configuration.",
            examples=[{"anchor": "created_at", "seconds": 86_400}],
        ),
    ] = None


class BatchErrorObject(Struct, frozen=True):
    """Why a batch has failed."""

    code: Annotated[str, Meta(description="What is wrong, for programs.", examples=["duplicate_custom_id"])]
    message: Annotated[str, Meta(description="What is wrong, for people.", examples=["custom_id: line 3 has it, too"])]
    line: Annotated[int | None, Meta(description="The line of the file, counted from 1.", examples=[7])]
    param: Annotated[str | None, Meta(description="The field at fault.", examples=["custom_id"])]


class BatchErrors(Struct, frozen=True):
    """The errors of a batch that has failed."""

    data: Annotated[tuple[BatchErrorObject, ...], Meta(description="The errors; of very many the first.")]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"


class RequestCounts(Struct, frozen=True):
    """How many lines a batch has."""

    total: Annotated[int, Meta(description="All.", examples=[500])]
    completed: Annotated[int, Meta(description="Those that were answered.", examples=[498])]
    failed: Annotated[int, Meta(description="Those that ended in an error.", examples=[2])]


class InputDetails(Struct, frozen=True):
    """The tokens that were read."""

    cached_tokens: Annotated[int, Meta(description="Those that were not computed again.", examples=[0])]


class OutputDetails(Struct, frozen=True):
    """The tokens that were written."""

    reasoning_tokens: Annotated[int, Meta(description="Those of thoughts.", examples=[0])]


class BatchTokens(Struct, frozen=True):
    """The tokens of all answers together."""

    input_tokens: Annotated[int, Meta(description="Tokens that were read.", examples=[9_000])]
    input_tokens_details: InputDetails
    output_tokens: Annotated[int, Meta(description="Tokens that were written.", examples=[4_000])]
    output_tokens_details: OutputDetails
    total_tokens: Annotated[int, Meta(description="Both.", examples=[13_000])]


class BatchObject(Struct, frozen=True, kw_only=True):
    """A batch, and how far it is. Moments are in seconds since 1970."""

    id: Annotated[str, Meta(description="Its id.", examples=[BATCH_ID])]
    object: Annotated[Literal["batch"], Meta(description="Always `batch`.")] = "batch"
    endpoint: Annotated[str, Meta(description="The route that answers.", examples=["/v1/chat/completions"])]
    model: Annotated[str | None, Meta(description="The model, where all lines name one.", examples=["echo"])]
    errors: Annotated[BatchErrors | None, Meta(description="Why it failed.", examples=[None])]
    input_file_id: Annotated[str, Meta(description="The file of its lines.", examples=[_FILE])]
    completion_window: Annotated[str, Meta(description="How long it may take.", examples=["24h"])]
    status: Annotated[BatchStatus, Meta(description="How far it is.", examples=["completed"])]
    output_file_id: Annotated[str | None, Meta(description="The file of the answers.", examples=[_FILE])]
    error_file_id: Annotated[str | None, Meta(description="The file of the lines that failed.", examples=[_FILE])]
    created_at: Annotated[int, Meta(description="When it was made.", examples=[_CREATED])]
    in_progress_at: Annotated[_Moment, Meta(description="When its lines began.", examples=[_CREATED])]
    expires_at: Annotated[int, Meta(description="When it expires.", examples=[_CREATED + 86_400])]
    finalizing_at: Annotated[_Moment, Meta(description="When its files began to be written.", examples=[_CREATED])]
    completed_at: Annotated[_Moment, Meta(description="When it was completed.", examples=[_CREATED])]
    failed_at: Annotated[_Moment, Meta(description="When it failed.", examples=[None])]
    expired_at: Annotated[_Moment, Meta(description="When it expired.", examples=[None])]
    cancelling_at: Annotated[_Moment, Meta(description="When it was told to end.", examples=[None])]
    cancelled_at: Annotated[_Moment, Meta(description="When it had ended.", examples=[None])]
    request_counts: RequestCounts
    usage: Annotated[
        BatchTokens | None, Meta(description="The tokens of its answers, where there are any.", examples=[None])
    ]
    metadata: Annotated[dict[str, str] | None, Meta(description="Labels.", examples=[{"run": "7"}])]


class BatchList(Struct, frozen=True):
    """Batches of a list, some at a time."""

    data: Annotated[list[Any], Meta(description="The batches.", examples=[[]])]
    first_id: Annotated[str | None, Meta(description="The id of the first one.", examples=[BATCH_ID])]
    last_id: Annotated[str | None, Meta(description="The id of the last one, to go on behind.", examples=[BATCH_ID])]
    has_more: Annotated[bool, Meta(description="Whether there are more behind it.")]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"


batch_decoder = msgspec.json.Decoder(BatchBody)


def window_seconds(text: str) -> int | None:
    """Return the seconds of a window, such as `24h`; `None` for none, or too many."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    return seconds if 0 < seconds <= MOST_SECONDS else None


def to_object(record: BatchRecord) -> BatchObject:
    """Show a batch; its files once they are there."""
    names = ("id", "endpoint", "model", "input_file_id", "completion_window", "status", "created_at", "expires_at")
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    faults = tuple(BatchErrorObject(fault.code, fault.message, fault.line, fault.param) for fault in record.errors)
    tokens = record.tokens
    return BatchObject(
        **{name: getattr(record, name) for name in names},
        **{f"{name}_at": getattr(record, f"{name}_at") for name in moments},
        errors=BatchErrors(faults) if faults else None,
        output_file_id=record.output_file_id if record.is_over else None,
        error_file_id=record.error_file_id if record.is_over else None,
        request_counts=RequestCounts(record.total, record.completed, record.failed),
        usage=BatchTokens(
            tokens.read,
            InputDetails(tokens.cached),
            tokens.written,
            OutputDetails(tokens.reasoned),
            tokens.read + tokens.written,
        )
        if record.completed
        else None,
        metadata=None if record.metadata is None else dict(record.metadata),
    )
