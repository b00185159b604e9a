"""What a model is for, as its files say it, before anything of it is loaded."""

import json
from pathlib import Path
from typing import Any, Literal

from gateway_hf.settings import Settings

Task = Literal["generate", "embed", "score"]

# A folder with one of them was made by sentence-transformers.
_SENTENCES = ("modules.json", "config_sentence_transformers.json")


def find_task(settings: Settings) -> Task:
    """Tell what the model is to do; one that cannot be looked at is taken to generate."""
    if settings.task != "auto":
        return settings.task
    if settings.model == "builtin-embedding":
        return "embed"
    folder = Path(settings.model).expanduser()
    named = _names(folder / "config.json")
    if _ends(named, "ForSequenceClassification") or _read(folder / _SENTENCES[1]).get("model_type") == "CrossEncoder":
        return "score"
    is_bare = _ends(named, "Model") and not _ends(named, "LMHeadModel")
    return "embed" if is_bare or any((folder / name).is_file() for name in _SENTENCES) else "generate"


def _names(file: Path) -> list[str]:
    """Return the names of the classes that a configuration is for."""
    named = _read(file).get("architectures")
    return [str(each) for each in named] if isinstance(named, list) else []


def _ends(named: list[str], end: str) -> bool:
    """Tell whether there are names, and all end so; `BertModel` is a bare model, without a head."""
    return bool(named) and all(each.endswith(end) for each in named)


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
