"""Parse a GGUF file's metadata and tensors by name."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np


class GgufFile:
    """The metadata and tensors of one file; `name` is its file name."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        # A string, as transformers passes it: while a file is converted, equal arguments share one reader.
        self._reader = gguf.GGUFReader(str(path))
        self.architecture = str(self.value("general.architecture"))

    def value(self, key: str) -> Any:  # noqa: ANN401 - whatever the file says, which may be nothing
        """Return the value of a key, or None where the file has none."""
        field = self._reader.fields.get(key)
        return None if field is None else field.contents()

    def own(self, key: str) -> Any:  # noqa: ANN401 - as above
        """Return the value of a key of the file's architecture: `rope.freq_base` for `llama.rope.freq_base`."""
        return self.value(f"{self.architecture}.{key}")

    def own_keys(self, prefix: str) -> list[str]:
        """List the architecture's keys that begin with `prefix`, without the architecture."""
        whole = f"{self.architecture}.{prefix}"
        return [key.removeprefix(f"{self.architecture}.") for key in self._reader.fields if key.startswith(whole)]

    def sizes(self) -> dict[str, int]:
        """Return how many numbers each tensor holds."""
        return {tensor.name: int(tensor.n_elements) for tensor in self._reader.tensors}

    def tensors(self) -> list[gguf.ReaderTensor]:
        """Return the tensors, as they lie in the file."""
        return self._reader.tensors

    def numbers(self, tensor: str) -> list[float] | None:
        """Return the numbers of a small tensor in float32, or None where the file has none of that name."""
        for each in self._reader.tensors:
            if each.name == tensor:
                dequantized = gguf.dequantize(each.data, each.tensor_type)
                return [float(number) for number in dequantized.flatten()]
        return None


class PlainGgufReader(gguf.GGUFReader):
    """The library's reader over a plain array of the file's bytes.

    Each piece of numpy's mappings of files runs Python code, and a vocabulary has hundreds of thousands of pieces.
    """

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as an attribute is
        super().__setattr__(name, value.view(np.ndarray) if isinstance(value, np.memmap) else value)
