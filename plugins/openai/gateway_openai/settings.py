"""The table `[engines.NAME.settings]` of the engine `openai`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/\n]+\Z")]
_Variable = Annotated[str, Meta(max_length=255, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]
ServerName = Literal["gateway", "openai", "vllm", "sglang", "llama-server", "ollama", "lmstudio", "tgi"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server to ask, and how long to wait for it.

    `base_url` ends with the version, as in `https://api.openai.com/v1`. `server` names the kind of server; without it
    the server is asked. `api_key_file` holds the key, or `api_key_env` names the environment variable that does;
    `ca_file` holds the certificates to trust. `models` maps the names to serve to the server's own; with none the
    server is asked for its list. Their `task` is to `generate`, to make vectors (`embed`) or to `score` pairs, unless a
    gateway says it itself. `context_window` is that of the models of which the server does not say it. Seconds
    bound a connection, the wait for the first bytes of an answer, and the wait for more of it.
    """

    base_url: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z")]
    server: ServerName | None = None
    task: Literal["generate", "embed", "score"] = "generate"
    api_key_file: Annotated[str, Meta(min_length=1)] | None = None
    api_key_env: _Variable | None = None
    ca_file: Annotated[str, Meta(min_length=1)] | None = None
    models: dict[_Name, Annotated[str, Meta(min_length=1, max_length=255)]] = {}
    context_window: Annotated[int, Meta(ge=1)] = 8192
    places: Annotated[int, Meta(ge=1, le=4096)] = 32
    connect_seconds: _Seconds = 5.0
    first_byte_seconds: _Seconds = 120.0
    idle_seconds: _Seconds = 60.0
