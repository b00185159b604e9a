"""The metadata of a small GGUF file, without any tensor."""

import struct

# One token of each kind, and the bytes of a face in two parts.
TOKENS = ("<s>", "</s>", "hello", "Ġworld", "ðŁĻ", "Ĥ", "<|end|>", "Ġ")
TYPES = (3, 3, 1, 1, 1, 1, 4, 1)
_STRING, _ARRAY, _BOOL, _UINT32, _INT32 = 8, 9, 7, 4, 5


def _text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_bytes(kind="gpt2", tokens=TOKENS, types=TYPES, *, leads=False, template=""):
    """Make a file's bytes: an architecture, a context and a vocabulary."""
    values = {
        "general.architecture": struct.pack("<I", _STRING) + _text("llama"),
        "llama.context_length": struct.pack("<II", _UINT32, 64),
        "tokenizer.ggml.model": struct.pack("<I", _STRING) + _text(kind),
        "tokenizer.ggml.add_space_prefix": struct.pack("<I?", _BOOL, leads),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", _ARRAY, _INT32, len(types))
        + struct.pack(f"<{len(types)}i", *types),
        "tokenizer.ggml.tokens": struct.pack("<IIQ", _ARRAY, _STRING, len(tokens)) + b"".join(map(_text, tokens)),
    }
    if template:
        values["tokenizer.chat_template"] = struct.pack("<I", _STRING) + _text(template)
    return (
        b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + b"".join(_text(key) + value for key, value in values.items())
    )
