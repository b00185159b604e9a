"""Complete the tokenizer that transformers reads from a GGUF file: added tokens, splitting rules, end tokens."""

import json
from collections.abc import Iterable
from typing import Any

from gguf import TokenType
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from gateway.engine import LoadFailed
from gateway_hf.loading.gguf_file import GgufFile
from gateway_hf.text.codec import backend

_BYTE_LEVEL = "gpt2"
_WHOLE = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.USER_DEFINED)
_NAMED = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")
_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
# What ends a turn by its name, as llama.cpp has it, where the chat template writes it.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "<|return|>", "<EOT>")
# How llama.cpp splits text by the name in the file, where transformers has no rule of that name.
_LIKE_GPT2 = {
    *("default", "gpt-2", "phi-2", "olmo", "jais", "trillion", "granite-docling", "gigachat", "a.x-4.0", "mellum"),
    *("jina-es", "jina-de", "jina-v2-es", "jina-v2-de"),
}
_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# A whole word of the vocabulary is one token even where no merges lead to it; llama.cpp knows this by the name too.
_WORDS_FIRST = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}


def completed(tokenizer: PreTrainedTokenizerBase, file: GgufFile) -> PreTrainedTokenizerFast:
    """Return `tokenizer`, as transformers reads it, completed from the file; raise `LoadFailed` for unknown rules."""
    rules = json.loads(backend(tokenizer).to_str())
    tokens: list[str] = file.value("tokenizer.ggml.tokens")
    if file.value("tokenizer.ggml.model") == _BYTE_LEVEL:
        _set_splitting(rules, file)
        _set_whole_tokens(rules, tokens, file)
    # What a tokenizer class of transformers adds of its own has no place in the model's embeddings.
    rules["added_tokens"] = [token for token in rules["added_tokens"] if token["id"] < len(tokens)]
    ids = {token: number for number, token in enumerate(tokens)}
    _set_beginning(rules, file, tokens)
    for token in (rules["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [ids[each] for each in token["tokens"]]
    named = {name: getattr(tokenizer, name) for name in _NAMES}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # as above
        tokenizer_object=Tokenizer.from_str(json.dumps(rules)), chat_template=tokenizer.chat_template, **named
    )


def ends(file: GgufFile) -> list[int]:
    """Return the ids of the tokens that end an answer: named in the file, or ending a turn in its chat template."""
    named = [number for key in _ENDS if (number := file.value(f"tokenizer.ggml.{key}")) is not None]
    template = file.value("tokenizer.chat_template") or ""
    kinds = file.value("tokenizer.ggml.token_type") or []
    pairs = zip(file.value("tokenizer.ggml.tokens"), kinds, strict=False)
    turns = [
        number
        for number, (token, kind) in enumerate(pairs)
        if token in _TURN_ENDS and kind == TokenType.CONTROL and token in template
    ]
    return sorted({*named, *turns})


def _set_splitting(rules: dict[str, Any], file: GgufFile) -> None:
    """Split text before the merges as the model was trained."""
    name = file.value("tokenizer.ggml.pre") or "default"
    if name in _SINGLE_DIGITS:
        digits = {"type": "Digits", "individual_digits": True}
        rules["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, _SPLIT]}
    elif name not in GGUF_PRE_TOKENIZER_SPLITS and name not in _LIKE_GPT2:
        raise LoadFailed(f"the GGUF file '{file.name}' splits text by rules that are not known here: '{name}'")
    rules["model"]["ignore_merges"] = name in _WORDS_FIRST


def _set_whole_tokens(rules: dict[str, Any], tokens: list[str], file: GgufFile) -> None:
    """Write the vocabulary anew, with every marker and every word that was added to it as one token of its own id.

    transformers spells all tokens in the alphabet of bytes; words added to a vocabulary are written as they read.
    """
    spelling: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call] # so is the library
    alphabet = frozenset(spelling.values())
    kinds: list[int] = file.value("tokenizer.ggml.token_type") or [TokenType.NORMAL] * len(tokens)
    special = {number for key in _NAMED if (number := file.value(f"tokenizer.ggml.{key}")) is not None}
    plain = {token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.NORMAL}
    merged = _merged(rules["model"]["merges"])
    vocabulary: dict[str, int] = {}
    added: list[dict[str, object]] = []
    for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        spelled = token if alphabet.issuperset(token) else "".join(spelling[byte] for byte in token.encode())
        # Some files mark what is an ordinary piece of their merges as a marker.
        is_piece = spelled != token and spelled in merged and spelled not in plain
        is_whole = (kind in _WHOLE or number in special) and not is_piece
        vocabulary[token if is_whole else spelled] = number
        if is_whole:
            added.append(_added(number, token, special=kind != TokenType.USER_DEFINED or number in special))
    rules["model"]["vocab"] = vocabulary
    rules["added_tokens"] = added


def _merged(merges: Iterable[list[str]]) -> frozenset[str]:
    """List all that merges are made of and lead to."""
    return frozenset(piece for left, right in merges for piece in (left, right, left + right))


def _added(number: int, token: str, *, special: bool) -> dict[str, object]:
    kept = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, **kept, "special": special}


def _set_beginning(rules: dict[str, Any], file: GgufFile, tokens: list[str]) -> None:
    """Begin a text with the begin token where llama.cpp does so though the file does not say."""
    begin = file.value("tokenizer.ggml.bos_token_id")
    says = file.value("tokenizer.ggml.add_bos_token")
    if says is None and begin is not None and file.value("tokenizer.ggml.pre") in _WORDS_FIRST:
        token = tokens[begin]
        first = {"SpecialToken": {"id": token, "type_id": 0}}
        text = [{"Sequence": {"id": name, "type_id": place}} for place, name in enumerate("AB")]
        rules["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [first, text[0]],
            "pair": [first, *text],
            "special_tokens": {token: {"id": token, "ids": [begin], "tokens": [token]}},
        }
