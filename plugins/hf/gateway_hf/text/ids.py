"""Turn a text into token ids while other threads go on."""

from tokenizers import Tokenizer


def ids_of(tokenizer: Tokenizer, text: str, *, add_special: bool) -> list[int]:
    """Return the ids of a text.

    The library's `encode` keeps the interpreter's lock, so that the model and every other request would wait for a
    long text; its batches let go of it, and one text is a batch too.
    """
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=add_special)
    return encoding.ids
