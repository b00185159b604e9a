"""`just image` and `just up` take the tool that is there, and say which one is needed where none is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JUST = shutil.which("just", path=Path(sys.executable).parent)
BUILD = "--file deploy/docker/Dockerfile --tag llm-gateway ."
UP = "--file deploy/compose/compose.yaml up --build"


@pytest.fixture
def machine(tmp_path):
    """A machine with these tools, each of which says how it was called; one that only lacks Compose says so."""

    def make(*tools, lacks_compose=()):
        for name in ("bash", "env"):
            (tmp_path / name).symlink_to(shutil.which(name))
        for name in tools:
            refuses = '[ "$1" = compose ] && exit 1\n' if name in lacks_compose else ""
            (tmp_path / name).write_text(f'#!/bin/sh\n{refuses}echo {name} "$@"\n')
            (tmp_path / name).chmod(0o755)

        def just(*arguments):
            return subprocess.run(
                [JUST, *arguments], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
            )

        return just

    return make


@pytest.mark.parametrize(
    ("tools", "command"),
    [
        (["docker", "podman", "buildah"], f"docker build {BUILD}"),
        (["podman", "buildah"], f"podman build --format docker {BUILD}"),
        (["buildah"], f"buildah build --format docker {BUILD}"),
    ],
)
def test_the_image_is_built_by_the_tool_that_is_there(machine, tools, command):
    done = machine(*tools)("image")
    assert (done.returncode, done.stdout) == (0, f"{command}\n")


def test_the_image_can_be_named(machine):
    assert "--tag example:1 ." in machine("docker")("image", "example:1").stdout


def test_the_build_can_be_given_arguments(machine):
    assert (
        "--tag example:1 --build-arg TORCH=cuda ."
        in machine("docker")("image", "example:1", "--build-arg", "TORCH=cuda").stdout
    )


def test_the_bill_of_materials_has_all_that_is_installed(tmp_path):
    """It is that of the lock file: what torch needs on a GPU too, whichever image is built."""
    if not shutil.which("uv"):
        pytest.skip("no uv")
    file = tmp_path / "bill" / "sbom.json"
    done = subprocess.run(
        [JUST, "sbom", file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"UV_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    found = {part["name"]: part for part in bill["components"]}
    for project in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        for requirement in tomllib.loads(project.read_text())["project"]["dependencies"]:
            name = re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")
            assert name in found or name == "llm-gateway", requirement
    assert "torch" in found
    assert "pytest" not in found
    assert found["litestar"]["purl"].startswith("pkg:pypi/litestar@")


def test_without_a_tool_the_image_recipe_says_which_one_is_needed(machine):
    done = machine()("image")
    assert done.returncode == 1
    assert "needs one of docker, podman and buildah" in done.stderr


@pytest.mark.parametrize(
    ("tools", "lacks_compose", "command"),
    [
        (["docker", "podman"], [], f"docker compose {UP} --detach"),
        (["docker", "podman"], ["docker"], f"podman compose {UP} --detach"),
        (["docker", "docker-compose"], ["docker"], f"docker-compose {UP} --detach"),
        (["podman-compose"], [], f"podman-compose {UP} --detach"),
    ],
)
def test_up_takes_the_compose_that_works(machine, tools, lacks_compose, command):
    done = machine(*tools, lacks_compose=lacks_compose)("up", "--detach")
    assert (done.returncode, done.stdout) == (0, f"{command}\n")


def test_without_compose_up_says_what_is_needed(machine):
    done = machine("docker", lacks_compose=["docker"])("up")
    assert done.returncode == 1
    assert "install Docker with its Compose plugin, or podman-compose" in done.stderr
