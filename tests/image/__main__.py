"""Run every line of the Dockerfile where no container engine is, then the service: `just rehearse`; for root on Debian.

The base image is a Debian of debootstrap with its own Python. A stage that nothing needs later is moved, not copied.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.image.stage import Stage
from tests.support.dockerfile import Instruction, arguments, stages
from tests.support.helm import TOOLS

_BASES = {"python:3.11-slim-bookworm": "bookworm"}
_PACKAGES = "python3,python3-pip,ca-certificates"
_RUN_LATER = {"ENTRYPOINT", "HEALTHCHECK", "VOLUME", "EXPOSE", "STOPSIGNAL"}


def base(suite: str, root: Path, mirror: str | None) -> None:
    """Make a Debian with Python in a folder, and keep it for the next time."""
    kept = TOOLS / f"{suite}.tar"
    root.mkdir()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        flags = ["--variant=minbase", f"--include={_PACKAGES}"]
        subprocess.run(["debootstrap", *flags, suite, root, *([mirror] if mirror else [])], check=True)
        subprocess.run(["tar", "--create", f"--directory={root}", f"--file={kept}.part", "."], check=True)
        Path(f"{kept}.part").rename(kept)
    else:
        subprocess.run(["tar", "--extract", f"--directory={root}", f"--file={kept}"], check=True)
    # As in the image that this stands for, `python` and `pip` are its own.
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()


def named(stage: list[Instruction], given: dict[str, str]) -> tuple[str, str]:
    """Return what a stage is from, and its own name."""
    origin, _, name = stage[0][1].partition(" AS ")
    for key, value in given.items():
        origin = origin.replace(f"${{{key}}}", value)
    return origin, name


def needed(given: dict[str, str]) -> list[list[Instruction]]:
    """List the stages that the last one needs, in order."""
    by_name = {named(stage, given)[1]: stage for stage in stages()}
    wanted, open_ends = [stages()[-1]], [stages()[-1]]
    while open_ends:
        stage = open_ends.pop()
        names = [named(stage, given)[0], *(_origin(argument) for word, argument in stage if word == "COPY")]
        for name in names:
            if name in by_name and by_name[name] not in wanted:
                wanted.append(by_name[name])
                open_ends.append(by_name[name])
    return [stage for stage in stages() if stage in wanted]


def _origin(argument: str) -> str:
    return argument.partition("--from=")[2].partition(" ")[0]


class Build:
    """The stages so far, in folders below `work`."""

    def __init__(self, work: Path, caches: Path, given: dict[str, str], mirror: str | None) -> None:
        self._work, self._caches, self._given, self._mirror = work, caches, given, mirror
        self._stages: dict[str, Stage] = {}
        self._wanted = needed(given)

    def all(self) -> Stage:
        """Run every stage; return the last."""
        for number, stage in enumerate(self._wanted):
            origin, name = named(stage, self._given)
            begun = self._begin(origin, self._work / f"{number}-{name or 'image'}", number)
            self._stages[name] = begun
            for word, argument in stage[1:]:
                with _told(f"{word} {argument}"):
                    self._do(begun, word, argument, number)
        return self._stages[""]

    def _begin(self, origin: str, root: Path, number: int) -> Stage:
        with _told(f"FROM {origin}"):
            if origin not in self._stages:
                base(_BASES[origin], root, self._mirror)
                return Stage(root=root)
            before = self._stages[origin]
            if self._is_over(origin, number):
                before.root.rename(root)
            else:
                subprocess.run(["cp", "-a", before.root, root], check=True)
            copied = Stage(root=root, folder=before.folder, user=before.user)
            copied.variables = dict(before.variables)
            copied.said = dict(before.said)
            return copied

    def _is_over(self, name: str, number: int) -> bool:
        """Tell whether no later stage is from a stage, or copies from it."""
        later = self._wanted[number + 1 :]
        origins = [named(stage, self._given)[0] for stage in later]
        copies = [_origin(argument) for stage in self._wanted[number:] for word, argument in stage if word == "COPY"]
        return name not in origins and copies.count(name) == 0

    def _do(self, stage: Stage, word: str, argument: str, number: int) -> None:
        match word:
            case "RUN":
                stage.run(argument, self._caches)
            case "COPY":
                # The one COPY from a stage in the last one takes the files.
                stage.copy(argument, self._stages, may_move=number == len(self._wanted) - 1)
            case "ENV":
                stage.set(argument)
            case "ARG":
                name, _, value = argument.partition("=")
                stage.variables[name] = self._given.get(name, value)
            case "WORKDIR":
                stage.folder = argument
                (stage.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = argument
            case _ if word in _RUN_LATER:
                stage.said[word] = argument
            case _:
                raise ValueError(f"{word} is not known here; teach tests/image to do it")


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    print(f"--- {what[:200]}", flush=True)
    began = time.monotonic()
    yield
    print(f"    {time.monotonic() - began:.1f} s", flush=True)


def main() -> int:
    """Build in a folder that is removed afterwards, and run what was built."""
    parser = argparse.ArgumentParser(prog="just rehearse", description=__doc__)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", help="debootstrap's; by default its own")
    parser.add_argument("--work", type=Path, help="where to build; by default a new folder for temporary files")
    parser.add_argument("--caches", type=Path, help="where RUN finds its caches; by default in the folder of the build")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    asked = parser.parse_args()
    given = arguments() | dict(pair.split("=", 1) for pair in asked.build_arg)
    work = Path(tempfile.mkdtemp(prefix="rehearse-", dir=asked.work))
    try:
        stage = Build(work, asked.caches or work / "caches", given, asked.mirror).all()
        size = subprocess.run(["du", "-sm", stage.root], capture_output=True, text=True, check=True).stdout.split()[0]
        print(f"the image has {size} MiB")
        file = work / "container.json"
        described = {"root": str(stage.root), "variables": stage.variables, "user": stage.user, "said": stage.said}
        file.write_text(json.dumps({"stage": described, "volumes": str(work / "volumes")}))
        alone = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        return subprocess.run([*alone, sys.executable, "-m", "tests.image.container", file], check=False).returncode
    finally:
        if not asked.keep:
            shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
