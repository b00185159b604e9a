"""The system's reason inside an error of a library."""

import os
import re

# As Rust's libraries end a message: safetensors and tokenizers raise exceptions of their own.
_CODE = re.compile(r"\(os error (\d{1,3})\)")


def system_error(error: BaseException) -> OSError | None:
    """Return the system's error that a library's error came of, or `None` where it came of something else."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        if found := _CODE.search(str(cause)):
            code = int(found[1])
            return OSError(code, os.strerror(code))
        cause = cause.__cause__ or cause.__context__
    return None
