"""Certificates made on the spot, by the program `openssl`."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

MISSING = "the program openssl is not installed, which makes the certificates"


class Certificate(NamedTuple):
    """A certificate and its key, as files."""

    file: Path
    key: Path


def program() -> str | None:
    """Find openssl."""
    return shutil.which("openssl")


def make(folder: Path, name: str, common_name: str) -> Certificate:
    """Make a certificate for this machine that signs itself, as `name.crt` and `name.key`."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
        *("-keyout", made.key, "-out", made.file, "-subj", f"/CN={common_name}"),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
    )
    return made


def sign(folder: Path, name: str, authority: Certificate) -> Certificate:
    """Make a certificate for a client that `authority` signs."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("extendedKeyUsage=clientAuth\n")
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", made.key, "-out", request, "-subj", f"/CN={name}"),
    )
    _openssl(
        *("x509", "-req", "-in", request, "-CA", authority.file, "-CAkey", authority.key, "-days", "2"),
        *("-CAcreateserial", "-extfile", extensions, "-out", made.file),
    )
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([str(program()), *map(str, arguments)], check=True, capture_output=True, timeout=60)
