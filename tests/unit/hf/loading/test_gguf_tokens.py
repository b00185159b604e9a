import json

import pytest
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from gateway.engine import LoadFailed
from tests.support.tiny_gguf import convert_file, make_tiny_gguf
from tests.support.tiny_models import make_tiny

# As DeepSeek writes them: none of the bars is in the alphabet that a byte-level vocabulary is spelled in.
_BAR = "\N{FULLWIDTH VERTICAL LINE}"
USER, END, TOOL = f"<{_BAR}User{_BAR}>", f"<{_BAR}end▁of▁sentence{_BAR}>", "<tool>"
TEXTS = [
    "hello 42 times",
    f"{USER}Größe?{END}",
    f"a {TOOL}{USER} b",
    "<|im_start|>user\nhi<|im_end|>",
    "    deep\n      deeper",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama with markers that were added to its vocabulary, special ones and others."""
    folder = make_tiny("llama", tmp_path_factory.mktemp("marked"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([USER, TOOL, "      "])
    tokenizer.add_tokens([AddedToken(END, special=True, normalized=False)], special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def converted(folder, tmp_path, **options):
    file = make_tiny_gguf(folder, tmp_path / "made.gguf", **{"pre": "gpt-2", **options})
    return convert_file(file, tmp_path / "cache")


def ids_of(folder, text):
    return AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_tokens_of_the_model_that_the_file_was_made_from(folder, tmp_path, text):
    assert ids_of(converted(folder, tmp_path), text) == ids_of(folder, text)


def test_an_added_token_is_one_token_within_the_vocabulary(folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(converted(folder, tmp_path))
    original = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == len(original)
    for marker in (USER, END, TOOL):
        assert tokenizer.convert_tokens_to_ids(marker) == original.convert_tokens_to_ids(marker)
        assert tokenizer.decode(tokenizer.convert_tokens_to_ids(marker)) == marker
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    assert END in special
    assert not {USER, TOOL} & special


def test_a_piece_of_the_merges_that_is_marked_as_a_marker_stays_a_piece(folder, tmp_path):
    pieces = AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(range(384))
    at, piece = next((n, token) for n, token in enumerate(pieces) if token.startswith("Ġ") and len(token) > 2)

    def mark(writer):
        writer.kv_data[0]["tokenizer.ggml.token_type"].value[at] = 3
        writer.kv_data[0]["tokenizer.ggml.tokens"].value[at] = piece.replace("Ġ", " ")

    text = piece.replace("Ġ", "x ")
    assert ids_of(converted(folder, tmp_path, more=mark), text) == ids_of(folder, text)


def test_the_ends_are_all_that_the_file_names(folder, tmp_path):
    def more(writer):
        writer.add_eot_token_id(3)
        writer.add_eom_token_id(384)

    config = json.loads((converted(folder, tmp_path, more=more) / "generation_config.json").read_text())
    assert config["eos_token_id"] == [2, 3, 4, 384]


def test_what_ends_a_turn_in_the_template_ends_the_answer(folder, tmp_path):
    config = json.loads((converted(folder, tmp_path) / "generation_config.json").read_text())
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<|im_end|>") == 4
    assert config["eos_token_id"] == [2, 4]


@pytest.mark.parametrize(("pre", "digits"), [("smollm", True), ("starcoder", True), ("gpt-2", False)])
def test_digits_are_split_where_the_file_names_such_rules(folder, tmp_path, pre, digits):
    known = AutoTokenizer.from_pretrained(converted(folder, tmp_path, pre=pre)).backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in known.pre_tokenize_str("42")] == (["4", "2"] if digits else ["42"])


def test_rules_of_splitting_that_are_not_known_are_refused(folder, tmp_path):
    with pytest.raises(LoadFailed, match="splits text by rules that are not known here: 'deepseek-llm'"):
        converted(folder, tmp_path, pre="deepseek-llm")


@pytest.mark.parametrize(("says", "begins"), [(None, True), (True, True), (False, False)])
def test_llama_3_begins_with_its_begin_token_unless_the_file_denies_it(folder, tmp_path, says, begins):
    def more(writer):
        if says is not None:
            writer.add_add_bos_token(says)

    read = AutoTokenizer.from_pretrained(converted(folder, tmp_path, pre="llama-bpe", more=more))
    assert (read("hello").input_ids[0] == 1) is begins
    assert read.backend_tokenizer.model.ignore_merges
