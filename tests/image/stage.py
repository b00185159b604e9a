"""A stage of the Dockerfile: a folder that its instructions work in."""

import json
import os
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgspec import Struct, field

ROOT = Path(__file__).parents[2]
# What a machine needs to reach its registries, where it needs anything: proxies, certificates, indexes.
_NETWORK = re.compile(r"(?i)(https?|no)_proxy|.*(CERT|CA_BUNDLE|CAINFO).*|(PIP|UV)_.*(INDEX|CERT|TIMEOUT).*")
_CERTIFICATES = "/etc/ssl/certs"


class Stage(Struct, kw_only=True):
    """The folder of a stage, and what its instructions have set so far. `said` are those that tell how to run it."""

    root: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"})
    folder: str = "/"
    user: str = "0:0"
    said: dict[str, str] = {}

    def run(self, argument: str, caches: Path) -> None:
        """Run a command of a shell, as RUN does; the folders that it mounts as caches lie below `caches`."""
        mounts = re.findall(r"--mount=type=cache,target=(\S+)", argument)
        command = re.sub(r"--mount=\S+ ", "", argument)
        binds = {target: caches / target.strip("/").replace("/", "-") for target in mounts}
        for target, source in binds.items():
            source.mkdir(parents=True, exist_ok=True)
            (self.root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        found = {name: value for name, value in os.environ.items() if _NETWORK.fullmatch(name)}
        enter(self, ["sh", "-c", command], found, binds)

    def copy(self, argument: str, stages: dict[str, "Stage"], *, may_move: bool) -> None:
        """Copy from the context, or from a stage, which gives its files away where nothing else needs them."""
        flags, *paths = _split_flags(argument)
        *sources, target = paths
        into = self.root / os.path.normpath(Path(self.folder, target)).lstrip("/")
        if origin := flags.get("from"):
            (source,) = sources
            into.parent.mkdir(parents=True, exist_ok=True)
            given = stages[origin].root / source.lstrip("/")
            subprocess.run(["mv" if may_move else "cp", *([] if may_move else ["-a"]), given, into], check=True)
            return
        for source in sources:
            _copy_from_context(source, into, is_folder=target.endswith(("/", ".")))

    def set(self, argument: str) -> None:
        """Set variables, as ENV does."""
        for pair in shlex.split(argument):
            name, _, value = pair.partition("=")
            self.variables[name] = self.fill(value)

    def fill(self, text: str) -> str:
        """Replace `$NAME` and `${NAME}` by what is set."""
        return re.sub(r"\$\{?(\w+)\}?", lambda found: self.variables.get(found[1], ""), text)


def enter(stage: Stage, command: list[str], found: dict[str, str], binds: dict[str, Path]) -> None:
    """Run a command in the folder of a stage as its user; all that is mounted for it goes with it."""
    places = {"/proc": None, "/dev": "/dev", "/etc/resolv.conf": "/etc/resolv.conf", **binds}
    if Path(_CERTIFICATES).is_dir():
        places[_CERTIFICATES] = _CERTIFICATES
    lines = ["set -e"]
    for target, source in places.items():
        at = stage.root / target.lstrip("/")
        if target == "/etc/resolv.conf":
            at.touch()
        else:
            at.mkdir(parents=True, exist_ok=True)
        mount = f"--rbind {shlex.quote(str(source))}" if source else "-t proc proc"
        lines.append(f"mount {mount} {shlex.quote(str(at))}")
    inner = f"cd {shlex.quote(stage.folder)} && exec {shlex.join(command)}"
    lines.append(f"exec chroot --userspec={stage.user} {shlex.quote(str(stage.root))} sh -c {shlex.quote(inner)}")
    subprocess.run(
        ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)],
        env=found | {"HOME": "/root"} | stage.variables,
        check=True,
    )


def _split_flags(argument: str) -> list[Any]:
    words = argument.split()
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    return [flags, *(word for word in words if not word.startswith("--"))]


def _copy_from_context(source: str, into: Path, *, is_folder: bool) -> None:
    if source == ".":
        for path in ROOT.iterdir():
            if not is_ignored(path.name):
                _copy_from_context(path.name, into / path.name, is_folder=path.is_dir())
        return
    given = ROOT / source
    if given.is_dir():
        shutil.copytree(given, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to = into / given.name if is_folder else into
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(given, to)


def is_ignored(path: str) -> bool:
    """Tell whether `.dockerignore` keeps a path at the root out of the build; its last matching line decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    verdicts = [not rule.startswith("!") for rule in rules if fnmatch(path, rule.removeprefix("!"))]
    return verdicts[-1]


def words(argument: str) -> list[str]:
    """Read the JSON form of ENTRYPOINT, or of CMD behind the flags of HEALTHCHECK."""
    return json.loads(argument[argument.index("[") :])
