"""The variables of OpenTelemetry's standard that its library reads by itself, in the process that serves.

At a wrong value the library raises there, and the worker would be started again and again; or it goes on without, and
the traces that a collector waits for never come. So they are read here first, as the library reads them.

Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from gateway.config.schema import TelemetrySettings

_SHOWN = 40
_MOST = 2**31 - 1
_MOST_DIGITS = 12
# Spans that wait to be sent: the queue of `gateway.telemetry.tracing`, and the most that one batch may have.
SPAN_QUEUE = 2048
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PREFIX = "OTEL_"


class _Form(NamedTuple):
    """What a value must be, in words, and how to tell; a value may be a secret, which no message repeats."""

    words: str
    holds: Callable[[str], bool]
    is_secret: bool = False


def _number(least: int, most: int = _MOST) -> _Form:
    words = f"a whole number from {least} to {most}"
    return _Form(words, lambda text: _is_whole(text) and least <= int(text) <= most)


def _one_of(*names: str) -> _Form:
    return _Form(f"one of {', '.join(names)}", lambda text: text.strip().lower() in names)


def _installed(group: str) -> _Form:
    """Ask for a component that a package registers under its name."""
    return _Form(
        f"the name of an installed component of {group!r}", lambda text: bool(entry_points(group=group, name=text))
    )


def _is_whole(text: str) -> bool:
    digits = text.strip().removeprefix("+")
    return digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS


def _is_number(text: str, least: float, most: float) -> bool:
    try:
        return least <= float(text) <= most
    except ValueError:
        return False


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file() and os.access(text, os.R_OK)
    except ValueError:  # a NUL
        return False


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    return (item.partition("=") for item in text.split(",") if item.strip())


def _are_attributes(text: str) -> bool:
    return text.isprintable() and all(name.strip() and equals for name, equals, _ in _pairs(text))


def _are_headers(text: str) -> bool:
    """Tell whether HTTP, which takes no line breaks and no other alphabets, could carry them."""
    return all(
        equals and _NAME.fullmatch(unquote(name).strip()) and unquote(value).isascii() and unquote(value).isprintable()
        for name, equals, value in _pairs(text)
    )


def _are_propagators(text: str) -> bool:
    names = [name.strip() for name in text.split(",")]
    return all(name in _PROPAGATORS or entry_points(group="opentelemetry_propagator", name=name) for name in names)


_PROPAGATORS = ("tracecontext", "baggage", "b3", "b3multi", "jaeger", "xray", "ottrace", "none")
_COUNT, _SECONDS = _number(0), _Form("a number above 0", lambda text: _is_number(text, math.ulp(0.0), _MOST))
_BOOLEAN = _one_of("true", "false")
_FILE = _Form("a file that can be read", _is_file)
_HEADERS = _Form("name=value pairs with commas between them, special characters as %41", _are_headers, is_secret=True)
_PROVIDER = _installed("opentelemetry_otlp_credential_provider")

# Read at every start, also where no trace is sent.
_ALWAYS = {
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": _COUNT,
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("trace_based", "always_on", "always_off"),
    "OTEL_RESOURCE_ATTRIBUTES": _Form("name=value pairs with commas between them", _are_attributes),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _Form(
        "names of installed resource detectors with commas between them",
        lambda text: all(
            name.strip() in {"", "*"} or entry_points(group="opentelemetry_resource_detector", name=name.strip())
            for name in text.split(",")
        ),
    ),
    "OTEL_PYTHON_CONTEXT": _installed("opentelemetry_context"),
    "OTEL_SDK_DISABLED": _BOOLEAN,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _BOOLEAN,
}
_TRACES = {
    **{
        f"OTEL_{what}_LIMIT": _COUNT
        for what in (
            "ATTRIBUTE_COUNT",
            "ATTRIBUTE_VALUE_LENGTH",
            "EVENT_ATTRIBUTE_COUNT",
            "LINK_ATTRIBUTE_COUNT",
            "SPAN_ATTRIBUTE_VALUE_LENGTH",
            "SPAN_EVENT_COUNT",
            "SPAN_LINK_COUNT",
        )
    },
    "OTEL_BSP_SCHEDULE_DELAY": _number(1),
    "OTEL_BSP_EXPORT_TIMEOUT": _COUNT,
    "OTEL_BSP_MAX_QUEUE_SIZE": _number(1),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _number(1, SPAN_QUEUE),
    "OTEL_TRACES_SAMPLER": _one_of(
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ),
    "OTEL_TRACES_SAMPLER_ARG": _Form("a number from 0 to 1", lambda text: _is_number(text, 0, 1)),
    "OTEL_PROPAGATORS": _Form(
        f"names of propagators, such as {', '.join(_PROPAGATORS[:2])}, with commas between them", _are_propagators
    ),
    "OTEL_PYTHON_METER_PROVIDER": _installed("opentelemetry_meter_provider"),
    **{
        f"OTEL_EXPORTER_OTLP_{signal}{what}": form
        for signal in ("", "TRACES_")
        for what, form in {
            "TIMEOUT": _SECONDS,
            "HEADERS": _HEADERS,
            "INSECURE": _BOOLEAN,
            "CERTIFICATE": _FILE,
            "CLIENT_KEY": _FILE,
            "CLIENT_CERTIFICATE": _FILE,
        }.items()
    },
}


def misread(variables: Mapping[str, str], settings: TelemetrySettings) -> Iterator[str]:
    """Yield what is wrong with the variables that the library would read with these settings."""
    forms = dict(_ALWAYS)
    if settings.otlp_endpoint or settings.otlp_traces_endpoint:
        forms |= _TRACES | _of_protocol(is_grpc=settings.otlp_protocol == "grpc")
    for name, form in forms.items():
        value = variables.get(name, "")
        if value and not form.holds(value):
            shown = "its value" if form.is_secret else repr(value[:_SHOWN]) + "…" * (len(value) > _SHOWN)
            yield f"{name} in the environment: {shown} is not {form.words}"


def without_empty(variables: Mapping[str, str]) -> dict[str, str]:
    """Leave out the standard's variables that are empty: it has them mean the default, the library not everywhere."""
    return {name: value for name, value in variables.items() if value or not name.startswith(_PREFIX)}


def _of_protocol(*, is_grpc: bool) -> dict[str, _Form]:
    compressions = ("gzip",) if is_grpc else ("none", "gzip", "deflate")
    found = {f"OTEL_EXPORTER_OTLP_{signal}COMPRESSION": _one_of(*compressions) for signal in ("", "TRACES_")}
    protocol = "GRPC" if is_grpc else "HTTP"
    providers = [f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}_{signal}CREDENTIAL_PROVIDER" for signal in ("", "TRACES_")]
    found |= dict.fromkeys(providers, _PROVIDER)
    if is_grpc:
        words = "names of gRPC's status codes with commas between them"
        found["OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"] = _Form(words, _are_codes)
    return found


def _are_codes(text: str) -> bool:
    return all(code.strip().upper() in _CODES for code in text.split(",") if code.strip())


_CODES = frozenset(
    {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)
