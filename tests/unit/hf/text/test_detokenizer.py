import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from gateway_hf.text.detokenizer import Detokenizer

TEXTS = [
    "The capital of France",
    "你好世界",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🙂",
    "a\r\n\tb  c",
    "\ufeffstart",
    "naïve\u0301",
    "data: x\n\n",
    "�end",
    "x�",
]
SEEDS = st.lists(st.integers(0, 1 << 30), max_size=80)


NAMES = ["gpt2", "llama", "qwen2", "builtin"]


@pytest.fixture(params=NAMES)
def tokenizer(request, tokenizer_of):
    return tokenizer_of(request.param)


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer in the way of Llama 2: a space is a piece's first letter, and unknown letters fall back to bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "▁a", "cat", "s", "."]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def pieces(tokenizer, ids, prompt=()):
    added = tokenizer.get_added_tokens_decoder()
    detokenizer = Detokenizer(tokenizer, prompt, {number for number, token in added.items() if token.special})
    return [detokenizer.feed(token) for token in ids], detokenizer.flush()


class Counted:
    """A tokenizer that counts the ids that it decodes."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.decoded = 0

    def decode(self, ids, **options):
        self.decoded += len(ids)
        return self._tokenizer.decode(ids, **options)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def whole(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert "".join(told) + rest == whole(tokenizer, ids)


@given(st.sampled_from(NAMES), SEEDS)
def test_the_pieces_of_any_ids_are_their_whole_decoding(tokenizer_of, name, seeds):
    tokenizer = tokenizer_of(name)
    ids = [seed % len(tokenizer) for seed in seeds]
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert "".join(told) + rest == whole(tokenizer, ids)


@given(SEEDS)
def test_the_pieces_of_any_bytes_are_their_whole_decoding(tokenizer_of, seeds):
    tokenizer = tokenizer_of("builtin")
    letters = [tokenizer.backend_tokenizer.token_to_id(letter) for letter in "ĠaÃ©ä½łðŁĻĤľĺĢï¿½"]
    ids = [letters[seed % len(letters)] for seed in seeds]
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert "".join(told) + rest == whole(tokenizer, ids)


def test_a_character_waits_until_it_is_whole(tokenizer_of):
    tokenizer = tokenizer_of("gpt2")
    ids = tokenizer.encode("🦜!", add_special_tokens=False)
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert len(ids) > 3
    assert (told, rest) == ([""] * (len(ids) - 2) + ["🦜", "!"], "")


def test_bytes_that_never_become_a_character_come_with_the_flush(tokenizer_of):
    tokenizer = tokenizer_of("gpt2")
    ids = tokenizer.encode("ok🦜", add_special_tokens=False)[:-1]
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert ("".join(told), rest) == ("ok", "\ufffd")


@pytest.mark.parametrize("byte", ["<0xF0>", "<0x80>", "<0xE4>"])
@pytest.mark.parametrize("count", [*range(1, 40), 1000])
def test_bytes_spelled_one_by_one_that_are_no_text_are_said_as_in_the_whole(spaced, byte, count):
    stray, cat = spaced.token_to_id(byte), spaced.token_to_id("cat")
    for ids in ([stray] * count, [cat, *[stray] * count, cat, cat], [*[stray] * count, *spaced.encode("你").ids, cat]):
        told, rest = pieces(spaced, ids)
        assert "".join(told) + rest == spaced.decode(ids)


@pytest.mark.parametrize("byte", "ðäÃ¿ł")
@pytest.mark.parametrize("count", [*range(1, 40), 1000])
def test_bytes_that_are_no_text_are_said_as_in_the_whole(tokenizer_of, byte, count):
    tokenizer = tokenizer_of("builtin").backend_tokenizer
    stray, cat = tokenizer.token_to_id(byte), tokenizer.encode("cat").ids
    char = tokenizer.encode("🦜").ids
    for ids in ([stray] * count, [*cat, *[stray] * count, *char, *cat], [*char[:-1], *[stray] * count, *char]):
        told, rest = pieces(tokenizer, ids)
        assert "".join(told) + rest == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["gpt2", "builtin", "spaced"])
@pytest.mark.parametrize("letters", ["ð", "Ã", "¿", "�", "a", "<|end|>", None])
def test_a_token_costs_the_same_wherever_it_is(tokenizer_of, spaced, name, letters):
    tokenizer = spaced if name == "spaced" else tokenizer_of(name).backend_tokenizer
    token = 1 << 20  # one that only the model knows
    if letters is not None:
        token = tokenizer.token_to_id(f"<0x{ord(letters):02X}>" if name == "spaced" and len(letters) == 1 else letters)
        token = tokenizer.encode(letters, add_special_tokens=False).ids[0] if token is None else token
    decoded = []
    for count in (1000, 4000):
        counted = Counted(tokenizer)
        detokenizer = Detokenizer(counted)
        for _ in range(count):
            detokenizer.feed(token)
        detokenizer.flush()
        decoded.append(counted.decoded)
    assert decoded[1] <= 5 * decoded[0]
    assert decoded[1] <= 30 * 4000


def test_special_tokens_have_no_text(tokenizer_of):
    tokenizer = tokenizer_of("llama")
    ids = tokenizer.encode("<|im_start|>a<|im_end|>", add_special_tokens=False)
    told, rest = pieces(tokenizer.backend_tokenizer, ids)
    assert (told, rest) == (["", "a", ""], "")


@pytest.mark.parametrize("prompt", ["Hello", "ends so �", "🦜"])
def test_nothing_of_the_prompt_is_said_again(tokenizer, prompt):
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    told, rest = pieces(tokenizer.backend_tokenizer, tokenizer.encode(" and on", add_special_tokens=False), ids)
    assert "".join(told) + rest == " and on"


@given(st.lists(st.integers(0, 264), max_size=30))
def test_where_spaces_are_letters_any_ids_that_are_a_text_give_it(spaced, ids):
    told, rest = pieces(spaced, ids)
    if "\ufffd" not in (text := spaced.decode(ids)):
        assert "".join(told) + rest == text


def test_bytes_that_stop_being_a_text_end_nothing(spaced):
    newline, stray = spaced.token_to_id("<0x0A>"), spaced.token_to_id("<0x80>")
    cat = spaced.token_to_id("cat")
    told, rest = pieces(spaced, [cat, newline, stray, cat, cat])
    assert "".join(told).startswith("cat\n")
    assert ("".join(told) + rest).endswith("catcat")


def test_where_spaces_are_letters_an_answer_keeps_its_first_space(spaced):
    prompt, answer = spaced.encode("the").ids, spaced.encode("a cat").ids
    told, rest = pieces(spaced, answer, prompt)
    assert "".join(told) + rest == " a cat"
