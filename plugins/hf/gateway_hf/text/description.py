"""Describe a tokenizer: its configuration, as `tokenizer_config.json` has it, in JSON's own types."""

from typing import Any

from transformers import PreTrainedTokenizerBase

# Where its files lie on this machine is no property of a tokenizer.
_LOCAL = frozenset(
    {
        *("name_or_path", "vocab_file", "merges_file", "tokenizer_file", "added_tokens_file", "tokenizer_object"),
        *("special_tokens_map_file", "is_local", "local_files_only", "cache_dir", "token", "_commit_hash"),
    }
)
# Beyond it MessagePack has no integer; those that mean `no limit` are floats too.
_MOST = 2**63


def describe(tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> dict[str, Any]:
    """Return the configuration as vLLM's `/tokenizer_info` shows it: a token by its text, nothing that is no JSON."""
    told = {name: value for name, value in tokenizer.init_kwargs.items() if name not in _LOCAL}
    told |= {"tokenizer_class": type(tokenizer).__name__}
    told |= {} if chat_template is None else {"chat_template": chat_template}
    return {name: shown for name, value in told.items() if (shown := _to_json(value)) is not None}


def _to_json(value: object) -> object:
    match value:
        case bool() | str() | float():
            return value
        case int():
            return value if abs(value) < _MOST else float(value)
        case dict():
            return {str(key): _to_json(each) for key, each in value.items()}
        case list() | tuple():
            return [_to_json(each) for each in value]
        case _:
            return getattr(value, "content", None)
