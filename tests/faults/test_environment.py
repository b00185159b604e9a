"""Garbage in variables that libraries read: one line, exit 2, before anything starts."""

import os
import subprocess
import sys

import pytest

from tests.support.service import _FOREIGN, Service, free_port

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def run(command, variables, tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return subprocess.run(
        [sys.executable, "-m", "gateway", command],
        env=inherited | {"ENGINE": "echo", "PORT": str(free_port())} | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "abc"),
        ("OTEL_TRACES_SAMPLER", "nonsense"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "abc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense"),
        ("OTEL_PROPAGATORS", "nonsense"),
        ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
    ],
)
def test_garbage_in_a_variable_of_the_standard_is_one_line_and_exit_2(command, name, value, tmp_path):
    ended = run(command, ENDPOINT | {name: value}, tmp_path)
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert (ended.returncode, name in line) == (2, True)


def test_a_temporary_folder_that_is_too_long_for_sockets_is_one_line_and_exit_2(tmp_path):
    folder = tmp_path / ("x" * 79)
    folder.mkdir()
    ended = run("serve", {"TMPDIR": str(folder)}, tmp_path)
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert (ended.returncode, f"TMPDIR: {folder} is too long" in line) == (2, True)


def test_empty_variables_of_the_standard_are_none():
    """They stop no start, though the library would stumble over an empty filter and an empty compression."""
    names = ("OTEL_METRICS_EXEMPLAR_FILTER", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
    grpc = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with Service(**ENDPOINT, **grpc, **dict.fromkeys(names, "")) as service:
        assert service.generate(prompt="a").status_code == 200
        assert not [line for line in service.lines if line["level"] == "ERROR"]


@pytest.mark.parametrize("name", ["LEVEL", "DIAGNOSE", "FORMAT", "ENQUEUE", "AUTOINIT", "ERROR_NO"])
def test_what_a_library_reads_while_it_is_imported_stops_nothing(name, tmp_path):
    """No line could name it: it would be a traceback before the first of ours."""
    ended = run("check", {f"LOGURU_{name}": "{nonsense"}, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
