"""Tokens by their names, over tokenizers of the byte-level kind and of Llama 2's, where a space begins a piece."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from gateway.engine import Chat, Completion, Message, Text, Tokens
from gateway_hf.text.token_names import TokenNames
from tests.unit.hf.conftest import codec

_ASCII = (
    "The capital of France is Paris.",
    " two  spaces ",
    "def f(x):\n\treturn x\n",
    "a",
    "",
    "1 + 1 = 2; ~!@#$%^&*()",
)
_OTHERS = ("Größe 你好 🙂!", "🙂", "👩‍🚀 x")


def _spaced(*, begins, form="<s> $A"):
    """A tokenizer in the way of Llama 2; one that `begins` puts a token first, or as its form says."""
    letters = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "▁a", "cat", "s", ".", *"abct"]
    pieces = {piece: n for n, piece in enumerate(["<unk>", "<s>", "</s>", *letters])}
    made = Tokenizer(models.BPE(pieces, [], byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    if begins:
        made.post_processor = processors.TemplateProcessing(single=form, special_tokens=[("<s>", 1), ("</s>", 2)])
    return codec(PreTrainedTokenizerFast(tokenizer_object=made))


@pytest.fixture(scope="module", params=["gpt2", "llama", "builtin", "spaced", "spaced and begun"])
def text(request):
    if request.param.startswith("spaced"):
        return _spaced(begins=request.param != "spaced")
    return request.getfixturevalue("codec_of")(request.param)


@pytest.mark.parametrize("said", [*_ASCII, *_OTHERS])
@pytest.mark.parametrize("add_special", [True, False])
def test_the_texts_of_a_prompts_tokens_are_the_prompt(text, said, add_special):
    prompt = Completion(said, add_special=add_special)
    ids = text.tokenize(prompt)
    texts = TokenNames(text).of_prompt(prompt, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == said


def test_what_the_tokenizer_puts_in_is_no_text_and_what_a_person_wrote_is(codec_of):
    text, prompt = codec_of("llama"), Completion("a<|im_end|>b")
    assert TokenNames(text).of_prompt(prompt, text.tokenize(prompt)) == ("", "a", "<|im_end|>", "b")


def test_the_end_of_a_prompt_that_was_cut_has_its_texts(codec_of):
    text, prompt = codec_of("llama"), Completion("a b c d")
    ids = text.encode(prompt, 3)
    texts = TokenNames(text).of_prompt(prompt, ids)
    assert len(texts) == 3
    assert "a b c d".endswith("".join(texts))


def test_so_has_its_beginning():
    text, prompt = _spaced(begins=True, form="<s> $A </s>"), Completion("the cat a")
    whole = text.encode(prompt)
    assert TokenNames(text).of_prompt(prompt, whole)[:: len(whole) - 1] == ("", "")
    ids = text.encode(prompt, 4, "right")
    assert ids == whole[:4]
    texts = TokenNames(text).of_prompt(prompt, ids)
    assert (len(texts), texts[0]) == (4, "")
    assert "the cat a".startswith("".join(texts))
    assert "".join(texts) == "th"


def test_tokens_and_chats_show_their_special_tokens(codec_of):
    text, chat = codec_of("llama"), Chat((Message("user", (Text("Hello"),)),))
    names = TokenNames(text)
    assert names.of_prompt(Tokens((1,)), [1]) == ("<|begin|>",)
    assert "".join(names.of_prompt(chat, text.tokenize(chat))).startswith("<|im_start|>user\nHello<|im_end|>")


def test_a_token_by_itself_keeps_its_first_space():
    names = TokenNames(_spaced(begins=True))
    first = 3 + 256  # behind the special tokens and the bytes
    assert [names(token).text for token in range(first, first + 6)] == [" ", " the", " a", "cat", "s", "."]


def test_a_part_of_a_character_is_no_character(codec_of):
    text = codec_of("gpt2")
    first, *_ = text.tokenize(Completion("🦜"))
    assert TokenNames(text)(first).text == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("said", ["🦜", "a 🙂 b", "Größe 你好"])
def test_the_bytes_of_the_tokens_are_the_text(text, said):
    names = [TokenNames(text)(token) for token in text.tokenize(Completion(f"a{said}", add_special=False))]
    spelled = b"".join(name.text.encode() if name.raw is None else name.raw for name in names)
    assert spelled.decode().lstrip() == f"a{said}"
    assert all((name.raw is None) == ("\N{REPLACEMENT CHARACTER}" not in name.text) for name in names)


def test_special_tokens_have_names(codec_of):
    assert TokenNames(codec_of("llama"))(4) == ("<|im_end|>", None)


def test_a_name_is_looked_up_once(codec_of, monkeypatch):
    text = codec_of("llama")
    names, asked = TokenNames(text), []
    detokenize = text.detokenize
    monkeypatch.setattr(text, "detokenize", lambda ids: asked.append(ids) or detokenize(ids))
    assert names(70) == names(70)
    assert len(asked) == 1
