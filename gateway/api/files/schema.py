"""What the routes of files answer, in OpenAI's shapes."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.reference.examples import REQUEST_ID
from gateway.store import FileRecord

FILE_ID = f"file-{REQUEST_ID}"
_CREATED = 1_767_225_600


class FileObject(Struct, frozen=True, kw_only=True):
    """A file."""

    id: Annotated[str, Meta(description="Its id.", examples=[FILE_ID])]
    object: Annotated[Literal["file"], Meta(description="Always `file`.")] = "file"
    bytes: Annotated[int, Meta(description="Its size.", examples=[1_204])]
    created_at: Annotated[int, Meta(description="When it was made, in seconds since 1970.", examples=[_CREATED])]
    expires_at: Annotated[
        int | None, Meta(description="When it goes, in seconds since 1970.", examples=[_CREATED + 2_592_000])
    ]
    filename: Annotated[str, Meta(description="Its name.", examples=["questions.jsonl"])]
    purpose: Annotated[
        Literal["batch", "batch_output"],
        Meta(description="What it is for: the lines of a batch, or what came of them.", examples=["batch"]),
    ]
    status: Annotated[Literal["processed"], Meta(description="Always `processed`.")] = "processed"
    status_details: Annotated[None, Meta(description="Always null.", examples=[None])] = None


class FileList(Struct, frozen=True):
    """Files of a list, some at a time."""

    data: Annotated[list[Any], Meta(description="The files.", examples=[[]])]
    first_id: Annotated[str | None, Meta(description="The id of the first one.", examples=[FILE_ID])]
    last_id: Annotated[str | None, Meta(description="The id of the last one, to go on behind.", examples=[FILE_ID])]
    has_more: Annotated[bool, Meta(description="Whether there are more behind it.")]
    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"


class DeletedFile(Struct, frozen=True):
    """A file that is no longer there."""

    id: Annotated[str, Meta(description="Its id.", examples=[FILE_ID])]
    object: Annotated[Literal["file"], Meta(description="Always `file`.")] = "file"
    deleted: Annotated[bool, Meta(description="Always true.")] = True


def to_object(record: FileRecord) -> FileObject:
    """Show a file."""
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_at,
        expires_at=record.expires_at,
        filename=record.filename,
        purpose=record.purpose,
    )
