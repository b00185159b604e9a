"""The weights in the forms that servers read, written once: GGUF files of each type, folders, random models."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import gguf
import torch
import transformers
from gguf.constants import Keys
from transformers.initialization import no_init_weights

from gateway_hf.loading import builtin, sources
from gateway_hf.settings import Settings
from tests.load.peers.table import BUILTIN, NotInstalled

_EXPORT_SECONDS = 900
_TYPES = {name: gguf.GGMLQuantizationType[name] for name in ("F16", "BF16", "Q8_0", "Q4_0")}
_FILE_TYPES = {
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
# In a file of 4 bits the embeddings, which are the last layer too, have 8, as in the file that there is.
_EMBEDDINGS = "token_embd.weight"
# Numbers that are drawn, and repeated; a prime, so that no two columns are the same.
_BLOCK = 65_537
_SPREAD = 0.02
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _shape(layers: int, hidden: int, inner: int, heads: tuple[int, int, int], **more: object) -> dict[str, object]:
    """Say the sizes of a model: `heads` are those of queries, those of keys, and the size of each."""
    queries, keys, size = heads
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner, "head_dim": size}
    sizes |= {"num_attention_heads": queries, "num_key_value_heads": keys, "max_position_embeddings": 8192}
    return sizes | {"tie_word_embeddings": True} | more


SHAPES = {
    "qwen2-0.5b": ("qwen2", _shape(24, 896, 4_864, (14, 2, 64), vocab_size=151_936)),
    "qwen3-0.6b": ("qwen3", _shape(28, 1_024, 3_072, (16, 8, 128), vocab_size=151_936)),
    "gemma3-270m": ("gemma3_text", _shape(18, 640, 2_048, (4, 1, 256), vocab_size=262_144, sliding_window=512)),
    "llama3.2-1b": ("llama", _shape(16, 2_048, 8_192, (32, 8, 64), vocab_size=128_256, rope_parameters=_LLAMA3)),
}


def builtin_folder(folder: Path) -> Path:
    """Copy the folder of the built-in model in bfloat16, which the engine converts, to where it stays; return it."""

    def copy(to: Path) -> None:
        source = sources.find(Settings(), torch.bfloat16)  # which holds its folder while it lives
        shutil.copytree(source.folder, to)

    return _once(folder / "smollm2-135m", copy)


def gguf_file(kind: str, folder: Path) -> Path:
    """Write the built-in model's file with its matrices as another type, once, and return it."""
    return _once(folder / f"smollm2-135m-{kind}.gguf", lambda file: _write_gguf(kind, file))


def shape_folder(name: str, folder: Path) -> Path:
    """Write a model folder of this shape with random weights and a tokenizer for all of its ids, once."""
    base = builtin_folder(folder)
    return _once(folder / name, lambda to: _write_shape(name, base, to))


def openvino_folder(model: Path, form: str, python: Path, folder: Path) -> Path:
    """Have a model folder written as OpenVINO reads it, once; raise `NotInstalled` where that fails."""

    def export(to: Path) -> None:
        command = [
            python.with_name("optimum-cli"),
            "export",
            "openvino",
            "--model",
            str(model),
            "--weight-format",
            form,
        ]
        try:
            subprocess.run(
                [*command, "--task", "text-generation-with-past", str(to)],
                check=True, capture_output=True, text=True, timeout=_EXPORT_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise NotInstalled(f"optimum-intel did not write it: {said[-1]}") from error

    return _once(folder / f"{model.name}-openvino-{form}", export)


def _once(path: Path, write: Callable[[Path], None]) -> Path:
    """Write a path under another name first, so that one that is there is whole."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
        write(part)
        part.rename(path)
    return path


def type_of(name: str, numbers: int, kind: str) -> str:
    """Say the type of a tensor by its name and its dimensions: vectors stay as they are."""
    if numbers < 2:
        return "F32"
    return "Q8_0" if kind == "Q4_0" and name == _EMBEDDINGS else kind


def _write_gguf(kind: str, file: Path) -> None:
    reader = gguf.GGUFReader(builtin.locate())
    writer = gguf.GGUFWriter(file, str(reader.fields[Keys.General.ARCHITECTURE].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE):
            continue
        writer.add_key_value(
            name, field.contents(), field.types[0], sub_type=field.types[-1] if len(field.types) > 1 else None
        )
    writer.add_file_type(_FILE_TYPES[kind])
    for tensor in reader.tensors:
        own = type_of(tensor.name, len(tensor.shape), kind)
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type)
        if own == "F32":
            writer.add_tensor(tensor.name, numbers)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(numbers, _TYPES[own]), raw_dtype=_TYPES[own])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(name: str, like: Path, folder: Path) -> None:
    """Write a model of random weights with the tokenizer of another."""
    kind, sizes = SHAPES[name]
    base = transformers.AutoTokenizer.from_pretrained(like)
    ends = {"bos_token_id": base.bos_token_id, "eos_token_id": base.eos_token_id, "pad_token_id": base.pad_token_id}
    config = transformers.CONFIG_MAPPING[kind](**sizes, **ends, dtype=torch.bfloat16)
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * _SPREAD
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(block.repeat(-(-weight.numel() // _BLOCK))[: weight.numel()].view(weight.shape))
            else:
                weight.fill_(0.0 if kind.startswith("gemma") else 1.0)  # Gemma's norms add one
    model.save_pretrained(folder)
    base.save_pretrained(folder)
    fill_tokenizer(folder / "tokenizer.json", config.vocab_size)


def fill_tokenizer(file: Path, vocabulary: int) -> None:
    """Give each id that a tokenizer has no text for a word that no text is split into."""
    read = json.loads(file.read_text())
    words = read["model"]["vocab"]
    taken = {*words.values(), *(added["id"] for added in read["added_tokens"])}
    words |= {f"Ġx{number}": number for number in range(vocabulary) if number not in taken}
    file.write_text(json.dumps(read, ensure_ascii=False))


def renderer(folder: Path) -> Callable[[str], str]:
    """Return what writes a question by the chat template of a model folder."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def render(question: str) -> str:
        said = [{"role": "user", "content": question}]
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))

    return render


def folder_of(model: str, cache: Path) -> Path:
    """Return the folder of the built-in model, or of a shape."""
    return builtin_folder(cache) if model == BUILTIN else shape_folder(model, cache)
