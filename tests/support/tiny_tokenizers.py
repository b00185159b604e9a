"""Tokenizers as some folders have them: without an unknown token, without byte fallback, SentencePiece's own."""

import io

from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.support.tiny_models import CHAT_TEMPLATE, CORPUS

_MARKERS = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
_LETTERS = [chr(code) for code in range(33, 127)]


def make_word_pieces(unknown: str | None) -> PreTrainedTokenizerFast:
    """Make a WordPiece tokenizer of ASCII words; without an `unknown` token it raises at any other text."""
    pieces = [*([unknown] if unknown else []), *_MARKERS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    bare = Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token=unknown or "[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.decoder = decoders.WordPiece()
    return _whole(bare, unknown)


def make_unigrams(unknown: str | None) -> PreTrainedTokenizerFast:
    """Make a Unigram tokenizer of ASCII; without an `unknown` token it raises at any other character."""
    pieces = [*([unknown] if unknown else []), *_MARKERS, "▁", "\n", *_LETTERS]
    bare = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0 if unknown else None))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    bare.decoder = decoders.Metaspace()
    return _whole(bare, unknown)


def make_without_bytes(unknown: str) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer that spells no bytes, so that other characters than ASCII's are unknown to it."""
    bare = Tokenizer(models.BPE(unk_token=unknown))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    bare.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[unknown, *_MARKERS],
        initial_alphabet=[*_LETTERS, "\n"],
        limit_alphabet=len(_LETTERS) + 2,
        show_progress=False,
    )
    bare.train_from_iterator(CORPUS, trainer)
    return _whole(bare, unknown)


def make_sentence_pieces(*, byte_fallback: bool = True) -> bytes:
    """Train a `tokenizer.model` as Llama 2 has one."""
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=written,
        model_type="bpe",
        vocab_size=360,
        byte_fallback=byte_fallback,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return written.getvalue()


def _whole(bare: Tokenizer, unknown: str | None) -> PreTrainedTokenizerFast:
    bare.add_special_tokens([*([unknown] if unknown else []), *_MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        unk_token=unknown,
        bos_token=_MARKERS[0],
        eos_token=_MARKERS[1],
        chat_template=CHAT_TEMPLATE,
    )
