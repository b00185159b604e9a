"""Checks of a converted configuration, beyond the types of its settings."""

import ipaddress
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.auth import KeyFile, KeyFileError
from gateway.config.schema import AuthSettings, Config, ServerSettings
from gateway.config.sources import command
from gateway.config.spelling import meant
from gateway.store import StoreFileError, check_file

# The path of a setting, and the error.
Violation = tuple[str, str]

# What comes first in the paths of the service itself: under such a prefix its own would be taken for another's.
OWN_PATH = re.compile(
    "apply-template|batches|capabilities|chat|classify|completions|conversations|detokenize|docs|embeddings?|files|"
    "generate|health|livez|messages|metrics|models|ping|playground|readyz|redoc|replay|requests|rerank|responses|schema|score|"
    "tokenize|tokenizer_info|v1|v2|version"
)

_STORES = ("redis", "rediss", "unix")

# The system takes 107 bytes for the path of a socket, and `/llm-gateway-01234567/control` comes behind the folder.
_FOLDER_BYTES = 78


def contradictions(config: Config) -> Iterator[Violation]:
    """Yield settings that contradict each other, or that their types cannot rule out."""
    if config.server.workers != 1:
        why = "one worker a process keeps the metrics true and the batch whole; run more replicas to scale"
        yield "server.workers", f"{config.server.workers} is refused: {why}"
    yield from _behind_proxies(config.server)
    if config.warnings:
        yield "warnings", "there is no such setting"
    if not config.engines:
        yield "engines", "at least one engine is needed"
    if config.cors.credentials and "*" in config.cors.origins:
        yield "cors.credentials", "credentials cannot be allowed to every origin; name the origins"
    for key in ("otlp_endpoint", "otlp_traces_endpoint"):
        url = getattr(config.telemetry, key)
        if url is not None and not _is_url(url):
            yield f"telemetry.{key}", f"{url!r} is no URL; expected http:// or https:// and a host"
    for section, store in (("limits", config.limits.store_url), ("cache", config.cache.store_url)):
        yield from _no_store(section, store)
    for name in config.engines:
        if not name.isidentifier():
            yield f"engines.{name}", f"{name!r} is no name for an engine; use letters, digits and _"
    yield from _same_keys(config.auth)
    yield from _no_engines(config)
    yield from _no_store_of_files(config)
    yield from _unkept(config)


def _behind_proxies(server: ServerSettings) -> Iterator[Violation]:
    if OWN_PATH.fullmatch(server.root_path[1:].partition("/")[0]):
        yield "server.root_path", f"{server.root_path} is a path of the service itself; choose another prefix"
    for number, text in enumerate(server.forwarded_allow):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            why = f"{error}; expected an address or a network, such as 10.0.0.0/8"
            yield f"server.forwarded_allow[{number}]", why
    for one, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate"), ("tls_client_ca", "tls_key")):
        if getattr(server, one) is not None and getattr(server, other) is None:
            yield f"server.{other}", f"server.{one} is set, and so this must be set too"


def _unkept(config: Config) -> Iterator[Violation]:
    """Yield engines that are to stay loaded, and to go."""
    pinned = [name for name, engine in config.engines.items() if engine.pinned]
    for name in pinned:
        if config.engines[name].idle_seconds is not None:
            yield f"engines.{name}.idle_seconds", "a pinned engine stays loaded; leave out one of the two"
    most = config.models.max_loaded
    started = [name for name in pinned if config.engines[name].load == "start"]
    if most is not None and len(started) > most:
        yield "models.max_loaded", f"{len(started)} engines are pinned and load at the start: {', '.join(started)}"


def _no_engines(config: Config) -> Iterator[Violation]:
    for alias in config.routes:
        route = config.route(alias)
        if route is None:
            continue
        shadow = (route.shadow.engine,) if route.shadow else ()
        for name in {*route.engines, *shadow} - config.engines.keys():
            yield f"routes.{alias}", f"there is no engine {name!r}; there is {', '.join(config.engines)}"
        if len(set(route.engines)) < len(route.engines):
            yield f"routes.{alias}", "an engine is named twice"
        for name in route.weights.keys() - set(route.engines):
            yield f"routes.{alias}.weights", f"{name!r} is none of its engines; they are {', '.join(route.engines)}"
        if route.weights and route.strategy != "weighted":
            yield f"routes.{alias}.weights", f'they count with strategy = "weighted" only, and it is {route.strategy!r}'


def _no_store_of_files(config: Config) -> Iterator[Violation]:
    if config.files.folder is not None and config.store.file is None:
        yield "files.folder", "what is known of the files lies in store.file, and there is none; set both"


def _no_store(section: str, url: str | None) -> Iterator[Violation]:
    if url is not None and url.partition("://")[0] not in _STORES:  # it may hold a password: it is not repeated
        yield f"{section}.store_url", "it is no address of a store; expected redis://, rediss:// or unix://"


def _same_keys(auth: AuthSettings) -> Iterator[Violation]:
    """Yield the keys that are configured under two names."""
    names: dict[str, str] = {}
    for name, entry in auth.keys.items():
        first = names.setdefault(entry.sha256, name)
        if first != name:
            yield f"auth.keys.{name}.sha256", f"this is the key of auth.keys.{first} already"


def openings(config: Config) -> Iterator[Violation]:
    """Yield settings that would serve unauthenticated callers on other machines."""
    auth, server = config.auth, config.server
    if auth.file is None:
        has_keys = bool(auth.keys)
    else:
        try:
            has_keys = bool(KeyFile(Path(auth.file)).read() or auth.keys)
        except (KeyFileError, OSError) as error:
            yield "auth.file", f"the keys cannot be read: {error}"
            return
    if has_keys or auth.insecure_no_auth:
        return
    if auth.file is not None:
        how = f"make one (`{command()} keys create NAME`), or say --insecure-no-auth"
        yield "auth.file", f"there is no key in {auth.file} yet; {how}"
    elif not _is_loopback(server.host):
        how = f"make one (`{command()} keys create NAME --file keys.db`) and set auth.file, or say --insecure-no-auth"
        yield "server.host", f"there is no key, so whoever reaches {server.host} could use the models; {how}"


def unusable_files(config: Config) -> Iterator[Violation]:
    """Yield files of certificates and of stored answers that the service could not use."""
    yield from _unusable_certificates(config.server)
    if config.store.file is not None:
        try:
            check_file(Path(config.store.file))
        except StoreFileError as error:
            yield "store.file", f"stored answers cannot be kept there: {error}"


def _unusable_certificates(server: ServerSettings) -> Iterator[Violation]:
    if server.tls_certificate is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password of its own OpenSSL asks for one at the terminal.
        context.load_cert_chain(server.tls_certificate, server.tls_key, password=_no_password)
    except (OSError, ValueError) as error:  # the errors of `ssl` are `OSError`s
        yield "server.tls_certificate", f"it cannot be used with server.tls_key: {error}"
        return
    try:
        if server.tls_client_ca is not None:
            context.load_verify_locations(server.tls_client_ca)
    except (OSError, ValueError) as error:
        yield "server.tls_client_ca", f"it cannot be used: {error}"


def _no_password() -> str:
    raise ValueError("the key has a password; take it off, as with `openssl pkey`")


def misspelt_models(config: Config, models: Iterable[str]) -> Iterator[str]:
    """Yield suggestions for misspelt model names. Unknown names pass: an engine may serve models not named here."""
    configured = [str(name) for engine in config.engines.values() if (name := engine.settings.get("model"))]
    known = {*config.engines, *config.routes, *configured, *(name.rpartition("/")[2] for name in configured)}
    for model in sorted({*models} - known):
        right = meant(model, known)
        if right and right.lower() != model.lower():
            yield f"no engine, route or model of the configuration is named {model!r}; did you mean {right!r}?"


def no_address(config: Config) -> Iterator[Violation]:
    """Yield a host that cannot be resolved; some programs, like conda, set HOST to something else."""
    host = config.server.host
    if _address(host) is None:
        how = "--host 127.0.0.1 wins over it (0.0.0.0 listens on every network)"
        yield "server.host", f"{host!r} is not an address, and no address is known for that name; {how}"


def no_folder() -> Iterator[str]:
    """Yield why the folder for temporary files cannot hold the sockets of the processes."""
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        yield f"TMPDIR: {error.strerror}; set it to a folder that this user may write to"
        return
    if len(os.fsencode(folder)) > _FOLDER_BYTES:
        yield f"TMPDIR: {folder} is too long for sockets; set it to a folder of {_FOLDER_BYTES} bytes at most"


def _is_loopback(host: str) -> bool:
    """Tell whether `host` is known to be reachable from this machine only."""
    address = _address(host)
    return address is not None and ipaddress.ip_address(address).is_loopback


def _address(host: str) -> str | None:
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0]).partition("%")[0]
    except (OSError, ValueError):
        return None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False
