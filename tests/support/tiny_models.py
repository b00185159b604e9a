"""Real model folders, tiny and random, made on the spot: what a Hub download looks like, without a Hub."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 384
CONTEXT = 256
WINDOW = 24
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen's tokenizer class adds `<|endoftext|>` where there is none: here it pads.
_SPECIAL = ["<|endoftext|>", "<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
_PAD, _BOS, _EOS, _IM_END = 0, 1, 2, 4
CORPUS = (
    "The quick brown fox jumps over the lazy dog. The capital of France is Paris, and the river is the Seine.",
    "Once upon a time there was a small model that could count: one, two, three, four, five, six, seven.",
    "def main():\n    return 42\n\nif __name__ == '__main__':\n    main()\n",
    "user assistant system What is the capital of France? I don't know; you'll tell me, won't you?",
    "Größe, naïve café, señor, œuvre. Привет, мир. 你好世界。 こんにちは。 🙂 🚀",
)

_WIDE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": CONTEXT}
_GROUPED = {**_WIDE, "num_key_value_heads": 2, "intermediate_size": 128}
_CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "gpt2": partial(GPT2Config, n_embd=64, n_layer=2, n_head=4, n_positions=CONTEXT),
    "llama": partial(LlamaConfig, **_GROUPED),
    "qwen2": partial(Qwen2Config, **_GROUPED),
    "qwen3": partial(Qwen3Config, head_dim=16, **_GROUPED),
    "mistral": partial(MistralConfig, sliding_window=WINDOW, **_GROUPED),
    "gemma": partial(GemmaConfig, head_dim=16, **_GROUPED),
    "gemma2": partial(Gemma2Config, head_dim=16, sliding_window=WINDOW, query_pre_attn_scalar=16, **_GROUPED),
    "phi": partial(PhiConfig, intermediate_size=128, **_WIDE),
    "gpt_neox": partial(GPTNeoXConfig, intermediate_size=128, **_WIDE),
    "opt": partial(OPTConfig, ffn_dim=128, word_embed_proj_dim=64, **_WIDE),
}
_LAST_NORMS = (
    "model.norm.weight",
    "transformer.ln_f.weight",
    "model.final_layernorm.weight",
    "gpt_neox.final_layer_norm.weight",
    "model.decoder.final_layer_norm.weight",
)
_BEGINNING = {"llama", "mistral", "gemma", "gemma2", "opt"}
ARCHITECTURES = tuple(_CONFIGS)
CHAT_ARCHITECTURES = ("llama", "qwen2")


def make_tiny(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a whole model folder into `folder` and return it; the same arguments give the same files."""
    chats = architecture in CHAT_ARCHITECTURES
    config = _CONFIGS[architecture](
        vocab_size=VOCABULARY, bos_token_id=_BOS, eos_token_id=_EOS, pad_token_id=_PAD, dtype=torch.float32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        _widen(model)
    model.generation_config = GenerationConfig(
        bos_token_id=_BOS, eos_token_id=[_EOS, _IM_END] if chats else _EOS, pad_token_id=_PAD
    )
    model.save_pretrained(folder)
    make_tokenizer(begins=architecture in _BEGINNING, chats=chats).save_pretrained(folder)
    return folder


def make_tokenizer(*, begins: bool, chats: bool) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; one that `begins` puts a begin token first, as Llama's does."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(CORPUS, trainer)
    if begins:
        bare.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", _BOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=_SPECIAL[_BOS],
        eos_token=_SPECIAL[_EOS],
        pad_token=_SPECIAL[_PAD],
        chat_template=CHAT_TEMPLATE if chats else None,
        model_max_length=CONTEXT,
    )


@torch.no_grad()
def _widen(model: torch.nn.Module) -> None:
    """Draw weights so wide that greedy decoding has clear winners; small embeddings keep it from saying its input."""
    for name, weight in model.named_parameters():
        if name in _LAST_NORMS:
            weight.fill_(20.0)
        elif any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
            weight.normal_(std=0.05)
        elif weight.dim() == 2:
            weight.normal_(std=0.4)
        elif "norm" not in name and "ln_" not in name:
            weight.normal_(std=0.2)
