"""What a model is for, as its files say it, before anything of it is loaded."""

import json
from pathlib import Path

from gateway_hf.settings import Settings

# A folder with one of them was made by sentence-transformers.
_SENTENCES = ("modules.json", "config_sentence_transformers.json")
_GENERATING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def makes_vectors(settings: Settings) -> bool:
    """Tell whether the model is to make vectors of texts; one that cannot be looked at is taken to generate."""
    if settings.task != "auto":
        return settings.task == "embed"
    if settings.model == "builtin-embedding":
        return True
    folder = Path(settings.model).expanduser()
    return any((folder / name).is_file() for name in _SENTENCES) or _is_bare(folder / "config.json")


def _is_bare(file: Path) -> bool:
    """Tell whether all classes of a configuration are bare models, as `BertModel`, without a head."""
    try:
        named = json.loads(file.read_bytes())["architectures"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return (
        isinstance(named, list)
        and bool(named)
        and all(str(each).endswith("Model") for each in named)
        and not any(str(each).endswith(_GENERATING) for each in named)
    )
