"""How the documentation describes the routes of batches."""

from gateway.api.batches.schema import BATCH_ID, BatchBody, BatchObject, to_object
from gateway.api.files.schema import FILE_ID
from gateway.api.reference.operation import BodyDoc, ReplyDoc, lookup, question
from gateway.store import BatchRecord, TokenSums

_MADE = 1_767_225_600
_EXAMPLE = to_object(
    BatchRecord(
        id=BATCH_ID,
        endpoint="/v1/chat/completions",
        input_file_id=FILE_ID,
        completion_window="24h",
        created_at=_MADE,
        expires_at=_MADE + 86_400,
        status="completed",
        ending="completed",
        model="smollm2-135m-instruct",
        total=500,
        completed=500,
        tokens=TokenSums(9_000, 0, 4_000, 0),
        output_file_id=FILE_ID,
        in_progress_at=_MADE + 1,
        finalizing_at=_MADE + 90,
        completed_at=_MADE + 91,
        metadata={"run": "7"},
    )
)
_ASKED = {
    "chats": {"input_file_id": FILE_ID, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "embeddings": {
        "input_file_id": FILE_ID,
        "endpoint": "/v1/embeddings",
        "completion_window": "2h",
        "metadata": {"run": "7"},
    },
}
CREATE_OPERATION = question(BodyDoc(BatchBody, _ASKED), ReplyDoc(BatchObject, _EXAMPLE), "The batch.")
BATCH_OPERATION = lookup(ReplyDoc(BatchObject, _EXAMPLE), "The batch.")
