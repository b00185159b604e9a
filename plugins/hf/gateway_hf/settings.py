"""The table `[engines.NAME.settings]` of the Hugging Face engine."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

_CACHE = Path(".cache", "llm-gateway")
# Tokens and bytes of the cache of keys and values, where no setting says.
USUAL_CACHE = 16_384
LARGEST_CACHE = 4 << 30
# The bytes of the scale that a token's key, or its value, has in each head where they are kept in 8 bits.
SCALE_BYTES = 4
_Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/\n]+\Z")]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model to serve, and on what.

    `model` is a Hub id, a folder, a `.gguf` file, `builtin` or `builtin-embedding`; `revision` is a branch, tag or
    commit of a Hub id. `task` `embed` makes vectors, `score` scores pairs and classes, `generate` makes texts; `auto`
    goes by the files of a folder, and takes a Hub id for a model that generates.
    `adapters` are folders of LoRA adapters as PEFT writes them, by the names that they are served under.
    `served_name` replaces the last part of the model's id. `device` is `cpu`, `cuda`, `cuda:1`, or `auto`: a GPU where
    there is one. `dtype` `auto` is bfloat16 where the processor computes in it, else float32. `threads` 0 is one for
    each core that the process may use. `context_window` lowers the model's own. `places` sequences run side by side,
    and a step computes at most `step_tokens` of their tokens. `cache_tokens` bounds the cache of keys and values, and
    so the context; 0 is the context or 16384, whichever is more, within 4 GiB. `quantize` rounds
    weights to 8 or 4 bits, or computes with those of a GGUF file as they are; `kv_dtype` `int8` keeps keys and values
    in 8 bits, so that twice as many tokens have room, and `auto` in the model's own numbers.
    `draft` names a smaller model with the same tokens, as `model` does, which guesses what the model will say.
    `kernels` `off` computes with torch's own operations. GGUF files and `builtin` are converted, and kernels built,
    once into `cache_folder`; without one it is `.cache/llm-gateway` in the user's home. After a conversion it has at
    most `cache_gib` GiB: the least recently used entries go first, and none that a process uses. To compile what an
    answer is held to may take `compile_seconds` of processor time and `compile_mib` MiB. A model that is further than
    `max_drift` from what it once said of its golden prompts, in nats, or of vectors as a cosine distance, is not
    loaded; 0 compares nothing, and without a bound it goes by the number format.
    """

    model: Annotated[str, Meta(min_length=1, max_length=4096)] = "builtin"
    task: Literal["auto", "generate", "embed", "score"] = "auto"
    revision: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    served_name: _Name | None = None
    adapters: dict[_Name, Annotated[str, Meta(min_length=1, max_length=4096)]] = {}
    device: Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)\Z")] = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    quantize: Literal["none", "int8", "int4", "gguf"] = "none"
    kv_dtype: Literal["auto", "int8"] = "auto"
    draft: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    kernels: Literal["auto", "off"] = "auto"
    places: Annotated[int, Meta(ge=1, le=1024)] = 32
    step_tokens: Annotated[int, Meta(ge=16, le=65_536)] = 512
    cache_tokens: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    context_window: Annotated[int, Meta(ge=1)] | None = None
    cache_folder: Annotated[str, Meta(min_length=1)] | None = None
    cache_gib: Annotated[int, Meta(ge=1, le=1 << 20)] = 20
    compile_seconds: Annotated[float, Meta(gt=0, le=600)] = 2.0
    compile_mib: Annotated[int, Meta(ge=16, le=1 << 20)] = 128
    max_drift: Annotated[float, Meta(ge=0, le=100)] | None = None


def cache_folder(settings: Settings) -> Path:
    """Return the folder for converted models and built kernels."""
    return Path(settings.cache_folder).expanduser() if settings.cache_folder else Path.home() / _CACHE
