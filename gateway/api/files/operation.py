"""How the documentation describes the routes of files."""

from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from gateway.api.files.schema import FILE_ID, FileObject
from gateway.api.reference.operation import ReplyDoc, download, lookup, upload

_EXAMPLE = FileObject(
    id=FILE_ID,
    bytes=1_204,
    created_at=1_767_225_600,
    expires_at=1_769_817_600,
    filename="questions.jsonl",
    purpose="batch",
)
_FORM = Schema(
    type=OpenAPIType.OBJECT,
    required=["file", "purpose"],
    properties={
        "file": Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description="The file."),
        "purpose": Schema(type=OpenAPIType.STRING, enum=["batch"], description="What it is for: `batch`."),
        "expires_after[anchor]": Schema(
            type=OpenAPIType.STRING,
            enum=["created_at"],
            description="From when `expires_after[seconds]` count. Left out: that.",
        ),
        "expires_after[seconds]": Schema(
            type=OpenAPIType.INTEGER,
            minimum=3_600,
            maximum=2_592_000,
            description="Seconds after which the file goes. Left out: `files.ttl_seconds` of the configuration.",
        ),
    },
)
FILE_OPERATION = lookup(ReplyDoc(FileObject, _EXAMPLE), "The file.")
UPLOAD_OPERATION = upload(_FORM, ReplyDoc(FileObject, _EXAMPLE), "The file.")
CONTENT_OPERATION = download("The bytes of the file.")
