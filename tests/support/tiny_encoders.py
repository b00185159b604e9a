"""Folders of models that make vectors or score pairs, tiny and random, as sentence-transformers writes them."""

import copy
import json
from pathlib import Path

import torch
from tokenizers import processors
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    ModernBertConfig,
    MPNetConfig,
    NomicBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from tests.support.tiny_models import VOCABULARY, make_tokenizer

WINDOW = 64
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, **_SIZES}
# Roberta and its kin count their places from behind the padding token's number.
_CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_COMMON, max_position_embeddings=WINDOW),
    "roberta": RobertaConfig(**_COMMON, max_position_embeddings=WINDOW + 1),
    "xlm-roberta": XLMRobertaConfig(**_COMMON, max_position_embeddings=WINDOW + 1),
    "mpnet": MPNetConfig(**_COMMON, max_position_embeddings=WINDOW + 2),
    "modernbert": ModernBertConfig(**_COMMON, max_position_embeddings=WINDOW),
    "nomic": NomicBertConfig(**_COMMON, max_position_embeddings=WINDOW),
    "qwen3": Qwen3Config(**_COMMON, num_key_value_heads=2, head_dim=8, max_position_embeddings=WINDOW),
}
ENCODERS = tuple(_CONFIGS)


def make_encoder(kind: str, folder: Path, pooling: str | None = "mean_tokens", **more: object) -> Path:
    """Write a model's folder and return it; `more` goes into `config_sentence_transformers.json`.

    Without a `pooling` there are no files of sentence-transformers.
    """
    _write_model(AutoModel, _CONFIGS[kind], folder)
    if pooling is not None:
        _write_steps(folder, pooling, more)
    return folder


def make_cross_encoder(kind: str, folder: Path, labels: int = 1, **more: object) -> Path:
    """Write the folder of a model that scores pairs, or classifies, and return it; `more` goes into its `config.json`.

    It is written as sentence-transformers wrote them until its version 5.
    """
    config = copy.deepcopy(_CONFIGS[kind])
    config.num_labels = labels
    _write_model(AutoModelForSequenceClassification, config, folder, typed=kind == "bert")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return folder


def logits_of(folder: Path, first: str, second: str | None = None) -> torch.Tensor:
    """Compute the numbers of a pair, or of a text, by the plainest way there is: alone, without padding."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts = (first,) if second is None else (first, second)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = tokenizer.backend_tokenizer.encode(*texts)
    inputs = {"input_ids": torch.tensor([read.ids])}
    if "token_type_ids" in tokenizer.model_input_names:
        assert second is None or 1 in read.type_ids
        inputs["token_type_ids"] = torch.tensor([read.type_ids])
    with torch.inference_mode():
        return model(**inputs).logits[0]


def _write_model(auto: type, config: PreTrainedConfig, folder: Path, *, typed: bool = False) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = auto.from_config(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer = make_tokenizer(begins=False, chats=False)
    tokenizer.model_max_length = 1 << 40
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A <|end|>",
        pair="<|begin|> $A <|end|> $B:1 <|end|>:1",
        special_tokens=[("<|begin|>", 1), ("<|end|>", 2)],
    )
    if typed:  # as BERT has it: the model is told which text of a pair a token is of
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)


def _write_steps(folder: Path, pooling: str, more: dict[str, object]) -> None:
    steps = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    include = {"include_prompt": more.pop("include_prompt")} if "include_prompt" in more else {}
    modes = {f"pooling_mode_{name}": True for name in pooling.split("+")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | modes | include))
    if more:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(more))
