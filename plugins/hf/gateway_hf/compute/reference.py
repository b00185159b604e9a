"""What `generate()` said in a trial, kept in the cache folder: a later start of the same model need not ask again."""

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gateway.engine import read_own, write_own

_log = logging.getLogger("gateway_hf")

_TOKENS, _LOGITS = "tokens", "logits"
# What is written here, and how a trial asks.
_FORMAT = 1
_LARGEST = 64 << 20
_BROKEN = (OSError, SafetensorError, ValueError)


class ReferenceAnswers:
    """The kept answers of one model, by the digest of all that they depend on.

    They can only confirm: a forward that says the same is right whatever the file is, and one that does not is tried
    again with answers of now. So neither an old file nor a broken one changes how a model is run.
    """

    def __init__(self, cache: Path, origin: Mapping[str, str]) -> None:
        spelled = "\0".join(f"{name}={value}" for name, value in sorted(origin.items()))
        digest = hashlib.sha256(f"{_FORMAT}\0{spelled}".encode()).hexdigest()[:16]
        self._file = cache / f"trial-{digest}"
        self._forgotten = False

    @property
    def are_kept(self) -> bool:
        """Whether there seem to be answers."""
        return self._file.exists()

    def find(self, prompts: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the tokens `[prompts, length]` and the logits `[new, prompts, vocabulary]`, where there are any.

        Those of other `prompts` `[prompts, length]` count for none.
        """
        if self._forgotten:
            return None
        try:
            found = load(read_own(self._file, _LARGEST))
            tokens, logits = found[_TOKENS], found[_LOGITS]
            begun = tokens[:, : prompts.shape[1]]
        except FileNotFoundError:
            return None
        except (*_BROKEN, LookupError) as error:
            _log.warning(
                "the trial is made anew, for %s in the cache folder cannot be used: %s", self._file.name, error
            )
            return None
        if not torch.equal(begun, prompts.cpu()) or logits.shape[:2] != (tokens.shape[1] - begun.shape[1], len(begun)):
            return None
        with suppress(OSError):  # a folder that cannot be written to is not cleared either
            os.utime(self._file)
        return tokens, logits

    def forget(self) -> None:
        """Find nothing from here on; answers kept later replace the file."""
        self._forgotten = True

    def keep(self, tokens: Tensor, logits: Tensor) -> None:
        """Write the answers; where the folder cannot be written to, or they are large, each start asks again."""
        if logits.nbytes + tokens.nbytes > _LARGEST // 2:
            return
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_own(self._file, save({_TOKENS: tokens.contiguous(), _LOGITS: logits.contiguous()}))
