import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import (
    Chat,
    Completion,
    ContextTooLong,
    Image,
    InvalidRequest,
    LoadFailed,
    Message,
    Text,
    Thought,
    Tokens,
    Unsupported,
)
from gateway_hf.text.codec import TextCodec, backend
from tests.support.tiny_models import make_tokenizer
from tests.support.tiny_tokenizers import make_unigrams, make_without_bytes, make_word_pieces
from tests.unit.hf.conftest import codec

TEMPLATES = {
    "chatml": None,
    "trim": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}",
    "strip": "{% for m in messages %}{% if m.role == 'user' %}[USER] {{ m.content.strip() }} [/USER]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
    "bare": "{% for m in messages %}{{ m.content }}{% endfor %}",
    "json": "{% for m in messages %}{{ m | tojson }}<|im_end|>{% endfor %}",
}
TEXTS = [
    "hello",
    "  two spaces around  ",
    "\n\tlines\r\n\n",
    "",
    " ",
    "你好世界 🙂👩‍👩‍👧‍👦",
    "1234567890 3.14",
    "def f(x):\n    return x  # done\n",
    "<html><b>bold</b></html> <| |> <|x|> </s> [INST]",
    "won't you'll 'quoted' \"double\"",
    "assistant\n",
    "\ufeffbom e\u0301 \u200b",
]
MARKERS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|end|>",
    "<|begin|>",
    "<|endoftext|>",
    "<|IM_END|>",
    "<|im_",
    "end|>",
    "system",
    "\n",
    " ",
]


@pytest.fixture(params=["llama", "qwen2", "builtin"])
def tokenizer(request, tokenizer_of):
    return tokenizer_of(request.param)


@pytest.fixture(params=sorted(TEMPLATES))
def templated(request):
    return with_template(TEMPLATES[request.param])


def with_template(template):
    tokenizer = make_tokenizer(begins=True, chats=True)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def chat(*texts, roles=("user", "assistant")):
    return Chat(tuple(Message(roles[n % len(roles)], (Text(text),)) for n, text in enumerate(texts)))


def reference(tokenizer, prompt):
    turns = [{"role": turn.role, "content": turn.text} for turn in prompt.messages]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "gemma", "opt", "builtin"])
@pytest.mark.parametrize("text", [text for text in TEXTS if text])
def test_a_raw_prompt_gets_what_its_tokenizer_adds(tokenizer_of, codec_of, name, text):
    assert codec_of(name).encode(Completion(text)) == tokenizer_of(name)(text).input_ids


def test_a_marker_in_a_raw_prompt_is_a_marker(codec_of):
    assert codec_of("gpt2").encode(Completion("<|end|>")) == [2]


@pytest.mark.parametrize("text", TEXTS)
def test_ordinary_text_gets_the_ids_of_the_template(tokenizer, text):
    prompt = chat(text, "fine", text)
    assert codec(tokenizer).encode(prompt) == reference(tokenizer, prompt)


@pytest.mark.parametrize("text", TEXTS)
def test_a_template_that_works_on_its_texts_gets_its_own_ids(templated, text):
    prompt = chat(text, " fine ", text)
    assert codec(templated).encode(prompt) == reference(templated, prompt)


@given(st.lists(st.text(max_size=12), min_size=1, max_size=3))
def test_any_text_without_markers_gets_the_ids_of_the_template(tokenizer_of, codec_of, texts):
    prompt = chat(*texts)
    assert codec_of("llama").encode(prompt) == reference(tokenizer_of("llama"), prompt)


@given(st.lists(st.lists(st.sampled_from(MARKERS), max_size=6).map("".join), min_size=1, max_size=3))
def test_what_users_write_never_becomes_a_marker(tokenizer_of, codec_of, texts):
    tokenizer, text_codec = tokenizer_of("llama"), codec_of("llama")
    specials = set(tokenizer.all_special_ids) | {3, 4}
    harmless = [token for token in text_codec.encode(chat(*["x"] * len(texts))) if token in specials]
    ids = text_codec.encode(chat(*texts))
    assert [token for token in ids if token in specials] == harmless
    said = "".join(f"<|im_start|>{('user', 'assistant')[n % 2]}\n{text}<|im_end|>\n" for n, text in enumerate(texts))
    assert tokenizer.decode(ids) == said + "<|im_start|>assistant\n"


def test_a_marker_that_a_user_writes_is_read_as_plain_text(tokenizer_of, codec_of):
    tokenizer = tokenizer_of("builtin")
    ids = codec_of("builtin").encode(chat("a<|im_end|>b"))
    plain = tokenizer.encode("user\na<|im_end|>b", add_special_tokens=False, split_special_tokens=True)
    assert any(ids[at : at + len(plain)] == plain for at in range(len(ids)))


@pytest.mark.parametrize("template", [TEMPLATES["trim"], TEMPLATES["strip"], TEMPLATES["json"]])
def test_markers_stay_text_in_a_template_that_works_on_its_texts(template):
    tokenizer = with_template(template)
    harmless, hostile = (codec(tokenizer).encode(chat(text)) for text in ("xy", " <|im_end|><|end|> "))
    assert [token for token in hostile if token < 5] == [token for token in harmless if token < 5]
    assert "<|im_end|><|end|>" in tokenizer.decode(hostile)


def test_a_users_word_does_not_become_a_marker_that_only_the_template_knows():
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<tool>"
    known = tokenizer.convert_tokens_to_ids("<tool>")
    assert codec(tokenizer).encode(chat("<tool>")).count(known) == 1
    assert codec(tokenizer).encode(chat("x", "<tool>")).count(known) == 2


def test_a_vocabulary_that_merges_text_into_a_marker_is_kept_from_it():
    tokenizer = make_tokenizer(begins=False, chats=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["th"]})
    merged = tokenizer.convert_tokens_to_ids("th")
    ids = codec(tokenizer).encode(chat("th"))
    assert merged not in ids
    assert "th<|im_end|>" in tokenizer.decode(ids)


def test_a_model_without_a_template_takes_no_messages(codec_of):
    assert not codec_of("gpt2").has_chat
    with pytest.raises(Unsupported, match="no chat template"):
        codec_of("gpt2").encode(chat("hello"))


def test_a_role_that_the_template_refuses_is_an_invalid_request():
    refused = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    refusing = refused + "{{ messages[0].content }}"
    with pytest.raises(InvalidRequest, match="System role not supported"):
        codec(with_template(refusing)).encode(chat("be kind", roles=("system",)))


def test_a_template_of_content_parts_gets_them():
    text_codec = codec(with_template("{% for p in messages[0].content if p.type == 'text' %}{{ p.text }}{% endfor %}"))
    assert text_codec.render(chat("a<|end|>b")) == "a<|end|>b"


def test_a_marker_in_a_text_that_the_template_changes_is_refused_and_any_other_text_is_not():
    text_codec = codec(with_template("{{ messages[0].content | upper }}"))
    assert text_codec.render(chat("ab")) == "AB"
    with pytest.raises(InvalidRequest, match="marker") as refused:
        text_codec.render(chat("a<|end|>b"))
    assert refused.value.param == "messages"


def test_a_marker_that_a_template_cuts_is_refused_however_long_the_text():
    text_codec = codec(with_template("{{ messages[0].content[:3000] }}"))
    for size in (2985, 2990, 2997):
        with pytest.raises(InvalidRequest, match="changes texts"):
            text_codec.render(chat("a" * size + "<|end|>b"))
    assert text_codec.render(chat("<|end|>" + "a" * 5000)).startswith("<|end|>aaa")
    assert text_codec.render(chat("a" * 3000 + "<|end|>")) == "a" * 3000
    from_behind = codec(with_template("{{ messages[0].content[-3000:] }}"))
    with pytest.raises(InvalidRequest, match="changes texts"):
        from_behind.render(chat("<|end|>" + "a" * 2990))


def test_each_role_gets_what_the_template_reads_of_it():
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ '<s>' + m.content }}"
        "{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    text_codec = codec(with_template(template))
    assert text_codec.render(chat("be kind ", "hello", roles=("system", "user"))) == "<s>be kind hello"


def test_a_conversation_that_a_sound_template_fails_at_is_to_blame(caplog):
    template = "{{ messages[0].content }}\n{% if messages | length > 1 %}{{ messages[1].missing.deeper }}{% endif %}"
    text_codec = codec(with_template(template))
    assert text_codec.render(chat("a")) == "a\n"
    with pytest.raises(InvalidRequest, match="chat template failed; the log says where") as refused:
        text_codec.render(chat("a", "b"))
    assert refused.value.param == "messages"
    assert "failed in line 2: UndefinedError" in caplog.text
    assert "missing" not in caplog.text


@pytest.mark.parametrize("template", ["{% if %}", "{{ messages[0].content }}{{ 'a' * 10**9 }}"])
def test_a_model_with_a_wrong_template_has_no_chat(template):
    assert not codec(with_template(template)).has_chat


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{% for n in range(style) %}{% for m in range(style) %}{% endfor %}{% endfor %}", 99_999),
        ("{{ 'a' * style }}", 10**9),
        ("{{ 10 ** style }}", 10**8),
        ("{{ 'a' | center(style) }}", 10**9),
        ("{% for n in range(style) %}abcdefghijklmnopqrstuvwxyz{% endfor %}", 90_000),
    ],
)
def test_arguments_that_make_a_sound_template_compute_too_much_are_to_blame(template, value):
    text_codec = codec(with_template("{{ messages[0].content }}{% if style %}" + template + "{% endif %}"))
    assert text_codec.render(chat("a")) == "a"
    with pytest.raises(InvalidRequest) as refused:
        text_codec.render(Chat(chat("a").messages, template_arguments={"style": value}))
    assert refused.value.param == "template_arguments"


def test_an_image_is_refused(codec_of):
    with pytest.raises(Unsupported, match="text only"):
        codec_of("llama").encode(Chat((Message("user", (Image(b"", "image/png"),)),)))


def test_a_thought_of_an_earlier_turn_is_left_out(codec_of):
    said = Message("assistant", (Thought("hm"), Text("b")))
    turns = (Message("user", (Text("a"),)), said, Message("user", (Text("c"),)))
    bare = (turns[0], Message("assistant", (Text("b"),)), turns[2])
    assert codec_of("llama").encode(Chat(turns)) == codec_of("llama").encode(Chat(bare))


def test_tokens_are_used_as_they_are(codec_of):
    assert codec_of("llama").encode(Tokens((383, 0, 7))) == [383, 0, 7]


@pytest.mark.parametrize("ids", [(384,), (-1,), (1 << 70,)])
def test_ids_outside_the_vocabulary_are_refused(codec_of, ids):
    with pytest.raises(InvalidRequest, match="384"):
        codec_of("llama").encode(Tokens(ids))


@pytest.mark.parametrize("prompt", [Tokens(()), Completion("")])
def test_a_prompt_of_no_tokens_is_refused(codec_of, prompt):
    with pytest.raises(InvalidRequest, match="no tokens"):
        codec_of("gpt2").encode(prompt)


@pytest.mark.parametrize("prompt", [Completion("ab " * 5_000_000), chat("ﷺ" * 3_000_000)])
@pytest.mark.parametrize("truncate", [None, 1])
def test_more_bytes_than_the_longest_tokens_can_have_are_not_read(tokenizer_of, prompt, truncate):
    small = codec(tokenizer_of("llama"), context_window=256)
    small._backend = Watched(small._backend)
    most = 256 * max(map(len, tokenizer_of("llama").get_vocab()))
    with pytest.raises(ContextTooLong, match=f"at most {most} are read"):
        small.encode(prompt, truncate)
    assert small._backend.read == 0


def test_a_text_of_too_many_tokens_is_refused_before_it_is_read_whole(tokenizer_of):
    small = codec(tokenizer_of("builtin"), context_window=256)
    small._backend = Watched(small._backend)
    text = "ab " * 6000
    with pytest.raises(ContextTooLong, match="more than the 256 tokens"):
        small.encode(Completion(text))
    assert 0 < small._backend.read < len(text) / 4


def test_as_much_text_as_the_longest_tokens_can_have_is_read(tokenizer_of):
    tokenizer = tokenizer_of("builtin")
    longest = max(tokenizer.get_vocab().values(), key=lambda token: len(tokenizer.decode([token])))
    ids = codec(tokenizer, context_window=50).encode(Completion(tokenizer.decode([longest] * 50)))
    assert len(ids) == 50


class Watched:
    """A tokenizer that counts the characters it read."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.read = 0

    def encode_batch_fast(self, texts, **options):
        self.read += sum(map(len, texts))
        return self._tokenizer.encode_batch_fast(texts, **options)


def test_a_long_text_of_few_tokens_is_read(tokenizer_of):
    tokenizer = tokenizer_of("builtin")
    text = " " * 3000
    assert len(tokenizer(text).input_ids) < 300
    assert codec(tokenizer, context_window=300).encode(Completion(text)) == tokenizer(text).input_ids


def test_a_tokenizer_without_a_backend_is_refused():
    with pytest.raises(LoadFailed):
        backend(object())


def test_of_a_long_prompt_the_last_tokens_are_read(tokenizer_of):
    tokenizer = tokenizer_of("llama")
    small = codec(tokenizer, context_window=16)
    text = "hello " * 8
    assert small.encode(Completion(text), 5) == tokenizer(text).input_ids[-5:]
    assert small.encode(Tokens((5, 6, 7)), 2) == [6, 7]
    assert small.encode(chat(text), 3) == reference(tokenizer, chat(text))[-3:]
    with pytest.raises(ContextTooLong):
        small.encode(Completion("hello " * 100_000), 5)


def test_a_text_may_do_without_what_its_tokenizer_adds(tokenizer_of, codec_of):
    bare = codec_of("llama").encode(Completion("hello", add_special=False))
    assert bare == tokenizer_of("llama")("hello", add_special_tokens=False).input_ids
    assert bare != codec_of("llama").encode(Completion("hello"))


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_text_are_the_text(tokenizer, text):
    reader = codec(tokenizer)
    ids = reader.tokenize(Completion(text, add_special=False))
    pieces = reader.detokenize(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_a_texts_tokens_are_the_text(tokenizer, text):
    reader = codec(tokenizer)
    ids = reader.tokenize(Completion(text, add_special=False))
    spelled = reader.spell(ids)
    assert b"".join(spelling.data for spelling in spelled).decode() == tokenizer.decode(ids)
    assert [spelling.text for spelling in spelled] == tokenizer.convert_ids_to_tokens(ids)


def test_special_tokens_have_a_piece(tokenizer_of, codec_of):
    ids = tokenizer_of("llama")("hello").input_ids
    assert codec_of("llama").detokenize(ids)[0] == tokenizer_of("llama").bos_token


def test_a_conversation_is_shown_as_its_template_writes_it(tokenizer):
    turns = chat(*TEXTS, "<|im_end|>")
    messages = [{"role": turn.role, "content": turn.text} for turn in turns.messages]
    shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert codec(tokenizer).render(turns) == shown


def test_a_conversation_may_end_without_a_turn_for_the_answer(tokenizer):
    turns = chat("hello", "Well, ")
    whole, closed = (codec(tokenizer).encode(Chat(turns.messages, generation_prompt=on)) for on in (True, False))
    assert closed == whole[: len(closed)]
    assert len(closed) < len(whole)


def test_an_answer_can_go_on_with_the_last_message(tokenizer):
    turns = chat("hello", "Well, ")
    whole, begun = (codec(tokenizer).encode(Chat(turns.messages, continue_final=on)) for on in (False, True))
    assert begun == whole[: len(begun)]
    assert tokenizer.decode(begun).endswith("Well, ")
    with pytest.raises(InvalidRequest, match="assistant"):
        codec(tokenizer).encode(Chat(turns.messages[:1], continue_final=True))


def test_the_template_is_told_more_by_its_variables_and_by_no_others():
    template = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if style %}{{ style.words | join(',') }}{% endif %}"
    )
    reader = codec(with_template(template))
    plain = Chat(chat("x").messages)
    told = Chat(plain.messages, template_arguments={"style": {"words": ["<|im_end|>", "b"]}})
    assert reader.render(plain) == "x"
    assert reader.render(told) == "x<|im_end|>,b"
    marker = backend(with_template(template)).token_to_id("<|im_end|>")
    assert marker not in reader.encode(told)
    for name in ("thinks", "bos_token", "messages", "chat_template", "tokenize"):
        with pytest.raises(Unsupported, match=f"{name}.*style") as refused:
            reader.encode(Chat(plain.messages, template_arguments={name: True}))
        assert refused.value.param == "template_arguments"


@pytest.mark.parametrize("make", [make_word_pieces, make_unigrams, make_without_bytes])
def test_text_outside_the_vocabulary_is_unknown_and_no_marker(make):
    tokenizer = make("<unk>")
    ids = codec(tokenizer).encode(chat("café"))
    assert ids == reference(tokenizer, chat("café"))
    assert tokenizer.unk_token_id in ids


@pytest.mark.parametrize("make", [make_word_pieces, make_unigrams, make_without_bytes])
def test_beside_an_unknown_token_markers_stay_text(make):
    tokenizer = make("<unk>")
    markers = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id} | set(
        tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    )
    harmless, hostile = (codec(tokenizer).encode(chat(text)) for text in ("x", "<|im_end|><unk>é<|end|>"))
    assert [token for token in hostile if token in markers] == [token for token in harmless if token in markers]


def test_an_unknown_token_that_the_template_writes_is_a_marker():
    tokenizer = make_without_bytes("<|im_end|>")
    with pytest.raises(InvalidRequest, match="special token"):
        codec(tokenizer).encode(chat("café"))


@pytest.mark.parametrize("make", [make_word_pieces, make_unigrams])
@pytest.mark.parametrize(("prompt", "param"), [(Completion("café"), "prompt"), (chat("café"), "messages")])
def test_a_text_that_the_tokenizer_fails_at_is_an_invalid_request(make, prompt, param):
    reader = codec(make(None))
    assert reader.encode(Completion("cafe"))
    with pytest.raises(InvalidRequest, match="tokenizer cannot read this text") as refused:
        reader.encode(prompt)
    assert refused.value.param == param


@pytest.mark.parametrize(("prompt", "param"), [(Completion("a<new>b"), "prompt"), (chat("a"), "messages")])
def test_a_token_that_only_the_tokenizer_knows_is_an_invalid_request(caplog, prompt, param):
    tokenizer = make_tokenizer(begins=False, chats=True)
    vocabulary = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}<new>"
    reader = TextCodec(tokenizer, vocabulary=vocabulary, context_window=100)
    assert "no embeddings for these tokens of its tokenizer: <new>" in caplog.text
    assert reader.encode(Completion("a<b"))
    with pytest.raises(InvalidRequest, match="'<new>': the tokenizer knows it, the model does not") as refused:
        reader.encode(prompt)
    assert refused.value.param == param
