"""Release a version: `just release 0.2.0` bumps the packages, dates the changelog, builds, commits and tags.

It refuses a tree with changes, a version that is not newer, a tag that exists, and a changelog with nothing new in it.
Where a step fails the tree is put back. Nothing is pushed or uploaded: it says how to go on.
"""

import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

CHANGELOG = Path("gateway", "CHANGELOG.md")
CHART = Path("deploy", "helm", "Chart.yaml")
DIST = Path("dist")
HEADING = "## Unreleased\n"
_FORM = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class Refused(Exception):
    """The release cannot be made; the message says why, and what to do."""


def versions(root: Path) -> dict[str, str]:
    """Return the version of each package of the workspace."""
    files = [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]
    projects = [tomllib.loads(file.read_text())["project"] for file in files]
    return {project["name"]: project["version"] for project in projects}


def check(root: Path, version: str) -> None:
    """Raise `Refused` where this version cannot be released from this tree."""
    if not _FORM.fullmatch(version):
        raise Refused(f"{version} is no version such as 1.2.3")
    if changed := _git(root, "status", "--porcelain"):
        raise Refused(f"the tree has changes; commit or stash them:\n{changed}")
    for name, current in versions(root).items():
        if _numbers(version) <= _numbers(current):
            raise Refused(f"{version} is not newer than {name} {current}")
    if _git(root, "tag", "--list", tag(version)):
        raise Refused(f"the tag {tag(version)} exists")


def tag(version: str) -> str:
    """Name the tag of a version."""
    return f"v{version}"


def dated(changelog: str, version: str, day: str) -> str:
    """Return the changelog with what was unreleased under this version; raise `Refused` where that is nothing."""
    before, heading, after = changelog.partition(HEADING)
    news = after.partition("\n## ")[0]
    if not heading or not news.strip():
        raise Refused(f"{CHANGELOG} has nothing under `{HEADING.strip()}`; write there what changed")
    return f"{before}{heading}\n## {version} - {day}\n{after}"


def release(root: Path, version: str) -> None:
    """Make the release commit, its tag and its packages."""
    check(root, version)
    changelog = root / CHANGELOG
    text = dated(changelog.read_text(), version, datetime.now(UTC).date().isoformat())
    try:
        for name in versions(root):
            _run(root, "uv", "version", "--frozen", "--package", name, version)
        _run(root, "uv", "lock")
        changelog.write_text(text)
        chart = root / CHART
        chart.write_text(
            re.sub(r"^(version|appVersion): .*$", rf"\1: {version}", chart.read_text(), flags=re.MULTILINE)
        )
        _run(root, "uv", "build", "--all-packages", "--clear", "--out-dir", str(DIST))
        _git(root, "commit", "--quiet", "--all", "--message", f"gateway: release {version}")
    except BaseException:
        _git(root, "restore", "--staged", "--worktree", ".")
        raise
    _git(root, "tag", "--annotate", "--message", f"llm-gateway {version}", tag(version))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _run(root: Path, *command: str) -> None:
    try:
        subprocess.run(command, cwd=root, check=True)  # noqa: S603 - commands of this file
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(f"`{' '.join(command)}` failed; nothing was changed") from error


def _git(root: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 - as above
    if done.returncode:
        raise Refused(f"`git {arguments[0]}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> int:
    """Release the version that the command line names."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the script and its one argument
        print("usage: release.py VERSION", file=sys.stderr)
        return 2
    version = sys.argv[1]
    try:
        release(Path(__file__).resolve().parents[1], version)
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return 1
    print(f"llm-gateway {version} is committed, tagged {tag(version)}, and built in {DIST}/.")
    print(f"Look at it (`git show {tag(version)}`), then publish: `git push origin HEAD {tag(version)}`.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
