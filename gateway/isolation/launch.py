"""The launch of an engine's process: what it gets to know, of its engine and of the environment."""

import logging
from collections.abc import Mapping
from typing import BinaryIO

import msgspec
from msgspec import Struct

from gateway.isolation.wire import Frames, pack

# Where things are, how numbers are computed, and which language is spoken; nothing that could hold a secret. Each
# process has a folder of its own for temporary files: that of its parent would make equal specifications differ.
_KNOWN = (
    "PATH HOME USER TZ LANG LANGUAGE PYTHONPATH PYTHONHOME PYTHONSAFEPATH VIRTUAL_ENV LD_LIBRARY_PATH "
    "LD_PRELOAD XDG_CACHE_HOME HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_CACHE CUDA_VISIBLE_DEVICES "
    "MALLOC_ARENA_MAX ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA TORCH_NUM_THREADS SSL_CERT_FILE SSL_CERT_DIR"
)
_KNOWN_STARTS = ("LC_", "OMP_", "MKL_", "KMP_", "OPENBLAS_")
_ONLINE = (
    "HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy HF_ENDPOINT "
    "RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH RAY_USE_TLS RAY_TLS_SERVER_CERT RAY_TLS_SERVER_KEY RAY_TLS_CA_CERT"
)
# Libraries that would report home, or run what they start with `uv run` and the working folder, as Ray does.
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


class RestartPolicy(Struct, frozen=True, kw_only=True):
    """How a process is watched and replaced; all times in seconds.

    It may load for `load`, and be silent, or busy without getting on, for `hang`. After it died once it is started at
    once, then after `delay`, twice that, and so on up to `longest_delay`, each shortened at random by up to half.
    `deaths` within `window`, with no answer finished in between, are a crash loop: it is not started again.
    """

    load: float = 1800.0
    hang: float = 30.0
    leave: float = 10.0
    beat: float = 0.5
    delay: float = 1.0
    longest_delay: float = 30.0
    deaths: int = 5
    window: float = 60.0


class Launch(Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """What the process must know: parent, listening socket, plugin with encoded settings, what it may do, its log."""

    parent: int
    listener: int
    plugin: str
    settings: bytes
    beat: float
    leave: float
    network: bool = False
    log_level: int = logging.INFO


def write(launch: Launch) -> bytes:
    """Make the bytes that the process reads first."""
    return pack(launch)


def read(pipe: BinaryIO) -> Launch:
    """Read them; raise `EOFError` when the parent is gone before it wrote them."""
    frames = Frames()
    while piece := pipe.read(1):
        for body in frames.feed(piece):
            return msgspec.msgpack.decode(body, type=Launch)
    raise EOFError("the parent is gone")


def scrubbed_environment(environment: Mapping[str, str], *, is_offline: bool) -> dict[str, str]:
    """Keep what an engine may know of the environment; it has no network libraries' settings where it is offline."""
    known = set((_KNOWN if is_offline else f"{_KNOWN} {_ONLINE}").split())
    kept = {name: value for name, value in environment.items() if name in known or name.startswith(_KNOWN_STARTS)}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if is_offline else {}
    return kept | offline | {"PYTHONUNBUFFERED": "1"} | _QUIET
