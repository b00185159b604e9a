"""The cache folder of `hf`, damaged, read-only, full, or in reach of other users.

What is damaged or another user's is made anew and named; where that cannot be, the start ends with the system's reason.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.engine.digests import digests
from gateway_hf.compute import native
from gateway_hf.compute.native import NotBuiltError
from gateway_hf.settings import Settings, cache_folder
from tests.support.mounts import read_only, small_disk
from tests.support.service import Service
from tests.support.tiny_gguf import make_tiny_gguf
from tests.support.tiny_models import make_tiny

pytestmark = pytest.mark.slow

_QUESTION = {"prompt": "Once upon a time", "max_new_tokens": 12, "temperature": 0, "ignore_eos": True}
_COMPILER = """#!{python}
import pathlib, shutil, sys
pathlib.Path({log!r}).open("a").write("built\\n")
shutil.copyfile({library!r}, sys.argv[sys.argv.index("-o") + 1])
"""
_PLANTED = '#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fclose(fopen("{mark}", "w")); }}'


class Kept:
    """A cache folder with all that one service keeps, the file of its model, and what that one says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.source = make_tiny_gguf(make_tiny("llama", folder / "tiny"), folder / "tiny.gguf")
        try:
            library = Path(native.library(cache_folder(Settings()))._name).resolve()
        except NotBuiltError as error:
            pytest.skip(f"no kernels: {error}")
        # Kernels are built in seconds of work that tests have done once: this compiler writes them at once.
        self.library, self.built = folder / "good.so", folder / "built"
        shutil.copyfile(library, self.library)
        (folder / "bin").mkdir()
        script = folder / "bin" / "c++"
        script.write_text(_COMPILER.format(python=sys.executable, log=str(self.built), library=str(self.library)))
        script.chmod(0o755)
        with self.service(self.cache) as service:
            self.text = answer(service)

    def service(self, cache: Path, *, ready: bool = True) -> Service:
        values = {"MODEL": str(self.source), "DTYPE": "float32", "THREADS": "1", "CACHE_FOLDER": str(cache)}
        named = {f"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__{name}": value for name, value in values.items()}
        self.built.write_text("")
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return Service(ENGINE="hf", ready=ready, PATH=path, LOG_LEVEL="INFO", **named)

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.cache, to / "cache"))


def answer(service: Service) -> str:
    replied = service.generate(**_QUESTION)
    assert replied.status_code == 200, replied.text
    return replied.json()["generated_text"]


def said(service: Service) -> str:
    return "\n".join(str(line.get("message", "")) for line in service.lines)


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("kept"))


def flip(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)


def test_damaged_weights_and_half_a_kernel_library_are_made_anew_and_named(kept, tmp_path):
    cache = kept.copy(tmp_path)
    weights, library = only(cache, "tiny-*/model.safetensors"), only(cache, "kernels-*/kernels.so")
    flip(weights)
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])
    with kept.service(cache) as service:
        assert answer(service) == kept.text
        for damaged in (weights, library):
            told = f"{damaged.parent.name} in the cache folder is not used, and made anew: {damaged.name} is not as"
            assert said(service).count(told) == 1
        assert kept.built.read_text() == "built\n"
    with kept.service(cache) as service:
        assert answer(service) == kept.text
        assert "made anew" not in said(service)
        assert kept.built.read_text() == ""


def test_a_whole_cache_folder_is_used_where_nothing_can_be_written(kept, tmp_path):
    with read_only(kept.copy(tmp_path)) as cache, kept.service(cache) as service:
        assert answer(service) == kept.text
        assert kept.built.read_text() == ""
        assert [line for line in service.lines if line["level"] in ("WARNING", "ERROR")] == []


@pytest.mark.parametrize("found", ["before", "while writing"])
def test_a_full_disk_ends_the_start_with_the_reason_and_leaves_nothing(kept, tmp_path, found):
    """The second disk has room for kernels, three small files and the weights, but for nothing beside them."""
    files = [only(kept.cache, name) for name in ("kernels-*/kernels.so", "tiny-*/model.safetensors")]
    pages = 16 if found == "before" else 3 + sum(-(-file.stat().st_size // 4096) for file in files)
    with small_disk(tmp_path / "cache", f"{pages * 4}k") as cache, kept.service(cache, ready=False) as service:
        assert service.process.wait(120) == 3
        told = f"tiny.gguf cannot be converted into the folder {cache}: No space left on device"
        assert f"{told}: it takes about" in said(service) if found == "before" else f"{told}\n" in said(service)
        assert "transformers does not read it" not in service.output
        assert [path.name for path in cache.iterdir() if path.name.startswith(("tiny-", ".tiny-"))] == []


def test_a_read_only_folder_without_the_conversion_is_told_so(kept, tmp_path):
    (tmp_path / "cache").mkdir()
    with read_only(tmp_path / "cache") as cache, kept.service(cache, ready=False) as service:
        assert service.process.wait(120) == 3
        assert f"tiny.gguf cannot be converted into the folder {cache}: Read-only file system" in said(service)
        assert f"the kernels are built for this process alone: the folder {cache}: Read-only" in said(service)


def test_nonsense_among_what_was_measured_is_measured_anew(kept, tmp_path):
    cache = kept.copy(tmp_path)
    known = json.loads((cache / "tuned.json").read_text())
    (key,) = known
    known[key] |= {"dtype": "nonsense", "threads": -7}
    (cache / "tuned.json").write_text(json.dumps(known))
    with kept.service(cache) as service:
        assert service.generate(**_QUESTION).status_code == 200
    assert json.loads((cache / "tuned.json").read_text())[key]["threads"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_another_user_put_into_a_folder_that_all_may_write_to_is_not_run(kept, tmp_path):
    """Kernels with a marker that fits, all of another user, and links where files will be written."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    cache, mark, precious = kept.copy(tmp_path), tmp_path / "mark", tmp_path / "precious"
    library = only(cache, "kernels-*/kernels.so")
    source = _PLANTED.format(mark=mark)
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)
    plant(library)
    precious.write_text("mine")
    (conversion,) = cache.glob("tiny-*")
    (cache / f".{conversion.name.rpartition('-')[2]}.lock").unlink(missing_ok=True)
    (cache / f".{conversion.name.rpartition('-')[2]}.lock").symlink_to(precious)
    shutil.rmtree(conversion)
    cache.chmod(0o777)
    with kept.service(cache) as service:
        assert answer(service) == kept.text
        assert not mark.exists()
        assert precious.read_text() == "mine"
        assert f"{library.parent.name} in the cache folder is not used, and made anew: it belongs to another" in said(
            service
        )
        assert kept.built.read_text() == "built\n"


def plant(library: Path) -> None:
    """Give the folder of a library to another user, with the digest that it has now."""
    marker = json.loads((library.parent / "made.json").read_text())
    descriptor = os.open(library, os.O_RDONLY)
    digest = digests({"x": descriptor})["x"]
    os.close(descriptor)
    marker["files"]["kernels.so"] = [digest.size, digest.digest]
    (library.parent / "made.json").write_text(json.dumps(marker))
    for path in (library.parent, *library.parent.iterdir()):
        os.chown(path, 65534, 65534)
