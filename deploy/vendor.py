"""Fetch the libraries of the playground from npm: `just vendor` writes the files named here, as they are there.

To take a newer release, change its version here and run it again. Beside the files are their licences, and their
digests in SHA256SUMS, which a test compares.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

TARGET = Path("gateway", "api", "playground", "static", "vendor")
SUMS = "SHA256SUMS"


class Library(NamedTuple):
    """A package of npm: its version, its licence, and the files to take, by where they are in it."""

    version: str
    licence: str
    files: dict[str, str]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


LIBRARIES = {
    "lit-html": Library(
        "3.3.3",
        "BSD-3-Clause",
        _same("lit-html.js", "directive.js", "directive-helpers.js", "LICENSE")
        | _same(*(f"directives/{name}.js" for name in ("guard", "live", "repeat"))),
    ),
    "marked": Library("18.2.1", "MIT", {"lib/marked.esm.js": "marked.esm.js", "LICENSE": "LICENSE"}),
}


def fetch(name: str, library: Library, target: Path) -> None:
    """Write the files of a package below `target`; npm compares the package with its digest in the registry."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{name}@{library.version}", "--json", "--pack-destination", folder]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603 - npm
        with tarfile.open(Path(folder, told[0]["filename"])) as package:
            for source, place in library.files.items():
                member = package.extractfile(f"package/{source}")
                if member is None:
                    raise FileNotFoundError(f"{name} {library.version} has no file {source}")
                file = target / name / place
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(member.read())


def sums(target: Path) -> str:
    """Return the digests of all files, as `sha256sum --check` reads them."""
    heads = [f"# {name} {library.version}, {library.licence}\n" for name, library in LIBRARIES.items()]
    files = [f"{name}/{place}" for name, library in LIBRARIES.items() for place in library.files.values()]
    return "".join([*heads, *(f"{sha256((target / file).read_bytes()).hexdigest()}  {file}\n" for file in files)])


def main() -> None:
    """Fetch all of them."""
    target = Path(__file__).resolve().parent.parent / TARGET
    for name, library in LIBRARIES.items():
        fetch(name, library, target)
    (target / SUMS).write_text(sums(target))
    sys.stdout.write(sums(target))


if __name__ == "__main__":
    main()
