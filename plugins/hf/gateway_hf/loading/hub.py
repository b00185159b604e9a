"""Fetch a model from the Hugging Face Hub: the copy in its cache first, then the network."""

import logging
import re
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils.hub import CHAT_TEMPLATE_DIR

from gateway.engine import LoadFailed, loading_step
from gateway_hf.loading import checks as gate
from gateway_hf.loading.progress import bar_for

_LOG = logging.getLogger(__name__)
_SECONDS = 5.0
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_TEXTS = frozenset({".json", ".txt", ".model", ".jinja"})
_TEMPLATES = re.compile(rf"{CHAT_TEMPLATE_DIR}/[^/]+\.jinja")


def fetch(model: str, revision: str | None) -> Path:
    """Return the folder of the model's safetensors, texts and nothing else; raise `LoadFailed` where it has none."""
    try:
        return _cached(model, revision) or _download(model, revision)
    except HFValidationError as error:
        raise LoadFailed(f"the model '{model}' is neither a folder, nor a GGUF file, nor a Hub id") from error
    except GatedRepoError as error:
        raise LoadFailed(f"the model '{model}' is not in the local cache and the hub asks for permission") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise LoadFailed(f"the model '{model}' is not in the local cache and unknown to the hub") from error
    except HfHubHTTPError as error:
        raise LoadFailed(f"the model '{model}' is not in the local cache and the hub does not serve it") from error


def _cached(model: str, revision: str | None) -> Path | None:
    """Return the copy in the cache if its weights are there: it may hold a tokenizer only."""
    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
        gate.weight_files(folder, model)
    except (LocalEntryNotFoundError, LoadFailed):
        return None
    return folder


def _download(model: str, revision: str | None) -> Path:
    try:
        found = HfApi().model_info(model, revision=revision, timeout=_SECONDS, files_metadata=True)
        wanted = _wanted([file.rfilename for file in found.siblings or ()], model)
        whole = sum(file.size or 0 for file in found.siblings or () if file.rfilename in wanted)
        with loading_step(_LOG, f"fetching {model} from the hub", _size(whole)) as tell:
            bar = bar_for(lambda done, _: tell(done / whole if whole else 0.0), unit="B")
            return Path(
                snapshot_download(  # pyright: ignore[reportCallIssue] # it takes any bar, and says one of asyncio
                    model,
                    revision=revision,
                    allow_patterns=wanted,
                    etag_timeout=_SECONDS,
                    tqdm_class=bar,  # pyright: ignore[reportArgumentType] # as above
                )
            )
    except (HfHubHTTPError, HFValidationError, LoadFailed):
        raise
    except Exception as error:  # most are the HTTP library's own, and those change with it
        if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
            raise LoadFailed(f"the model '{model}' cannot be written to the local cache: {error.strerror}") from error
        raise LoadFailed(f"the model '{model}' is not in the local cache and the hub cannot be reached") from error


def _size(whole: int) -> str:
    return f"once, {whole / 1e6:.0f} MB" if whole else "once"


def _wanted(files: list[str], model: str) -> list[str]:
    """Choose among a repository's files: the top folder's weights in safetensors, its texts, and named templates."""
    weights = [file for file in files if _WEIGHTS.fullmatch(file)]
    if not weights:
        raise LoadFailed(f"the model '{model}' has no weights in safetensors on the hub")
    texts = [file for file in files if "/" not in file and Path(file).suffix in _TEXTS]
    return weights + texts + [file for file in files if _TEMPLATES.fullmatch(file)]
