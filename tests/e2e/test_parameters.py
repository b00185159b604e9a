"""What OpenAI's routes honour, seen in the answers of the real model."""

import json

import pytest

from tests.support.observe import is_error
from tests.support.service import Service

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = {"prompt": "Once upon a time", "temperature": 0, "max_tokens": 16}


@pytest.fixture(scope="session")
def ask(builtin):
    def post(path, **body):
        answer = builtin.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return post


@pytest.fixture(scope="session")
def said(ask):
    return lambda **body: ask("/v1/completions", **(STORY | body))["choices"][0]


@pytest.fixture(scope="session")
def plain(said):
    return said()["text"]


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 1.5, "seed": 1},
        {"temperature": 1.5, "seed": 1, "top_p": 0.3},
        {"temperature": 1.5, "seed": 1, "top_k": 3},
        {"temperature": 1.5, "seed": 1, "min_p": 0.4},
        {"temperature": 1.5, "seed": 2},
        {"repetition_penalty": 2.0},
        {"presence_penalty": 2.0, "max_tokens": 48},
        {"frequency_penalty": 2.0, "max_tokens": 48},
        {"max_tokens": 4},
        {"stop": ","},
    ],
    ids="+".join,
)
def test_a_parameter_changes_the_answer(said, plain, changed):
    text = said(**changed)["text"]
    longer = plain if changed.get("max_tokens", 16) <= 16 else said(max_tokens=changed["max_tokens"])["text"]
    assert text != longer
    assert said(**changed)["text"] == text


def test_a_cut_off_makes_a_draw_what_is_likeliest(said, plain):
    for narrow in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}):
        assert said(temperature=1.5, seed=1, **narrow)["text"] == plain


def test_a_biased_token_comes_and_a_banned_one_does_not(ask, said, plain):
    assert plain.startswith(",")
    first, other = (ask("/tokenize", content=text)["tokens"][0] for text in (plain, " zebra"))
    assert not said(logit_bias={str(first): -100})["text"].startswith(",")
    assert said(logit_bias={str(other): 100}, max_tokens=2)["text"] == " zebra zebra"


def test_a_stop_token_ends_the_answer_and_is_not_shown(ask, said, plain):
    tokens = ask("/tokenize", content=plain)["tokens"]
    stopped = said(stop_token_ids=[tokens[3]])
    assert stopped["finish_reason"] == "stop"
    assert plain.startswith(stopped["text"])
    assert len(ask("/tokenize", content=stopped["text"])["tokens"]) == 3


def test_only_allowed_tokens_come(ask, said):
    digits = [ask("/tokenize", content=digit)["tokens"][0] for digit in "0123456789"]
    for drawn in ({}, {"temperature": 2, "seed": 1}):
        assert said(allowed_token_ids=digits, **drawn)["text"].isdigit()


def test_a_bad_word_does_not_come_even_where_it_is_several_tokens(said, plain):
    for word in (plain.split()[1], " ".join(plain.split()[4:6])):
        assert word in plain
        assert word not in said(bad_words=["zebra", word])["text"]


def test_a_stop_text_and_a_stop_token_may_be_shown(ask, said, plain):
    word = plain.split()[2]
    assert said(stop=word, include_stop_str_in_output=True)["text"] == plain[: plain.index(word) + len(word)]
    tokens = ask("/tokenize", content=plain)["tokens"]
    shown = said(stop_token_ids=[tokens[3]], include_stop_str_in_output=True)
    assert shown["finish_reason"] == "stop"
    assert ask("/tokenize", content=shown["text"])["tokens"] == tokens[:4]


def test_the_ids_of_all_tokens_are_those_of_the_text(ask, said, plain):
    answer = said(return_token_ids=True)
    assert answer["text"] == plain
    assert answer["prompt_token_ids"] == ask("/tokenize", prompt=STORY["prompt"])["tokens"]
    assert ask("/detokenize", tokens=answer["token_ids"])["content"] == plain
    conversation = ask("/v1/chat/completions", messages=QUESTION, temperature=0, return_token_ids=True)
    assert conversation["prompt_token_ids"] == ask("/tokenize", messages=QUESTION)["tokens"]
    (choice,) = conversation["choices"]
    assert len(choice["token_ids"]) == conversation["usage"]["completion_tokens"]
    assert ask("/detokenize", tokens=choice["token_ids"])["content"].startswith(choice["message"]["content"])


def test_the_ids_of_prompts_are_bounded_in_a_reply():
    with Service(ENGINE="", LLM_GATEWAY__SERVER__MAX_LOGPROBS="2", ready=False) as few:
        few.wait_for("/readyz", seconds=180)
        ids = few.client.post("/tokenize", json={"prompt": "Once upon"}).json()["tokens"]
        asked = {"prompt": ids * 4, "max_tokens": 1, "return_token_ids": True}
        most = 16 // len(asked["prompt"])
        answer = few.client.post("/v1/completions", json=asked | {"n": most})
        assert [choice["prompt_token_ids"] for choice in answer.json()["choices"]] == [asked["prompt"]] * most
        for more in ({"n": most + 1}, {"prompt": ids * 16, "stream": True}):
            refused = few.client.post("/v1/completions", json=asked | more)
            assert is_error(refused, 400, "invalid_value", "return_token_ids")
            assert "more than 16 ids" in refused.json()["error"]["message"]


def test_a_stream_tells_its_ids_its_usage_and_its_timings(builtin, plain):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = STORY | {"stream": True, "return_token_ids": True, "timings_per_token": True, "stream_options": options}
    answer = builtin.client.post("/v1/completions", json=body, headers={"cache-control": "no-store"})
    *chunks, last = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    ids = [token for chunk in chunks for token in chunk["choices"][0].get("token_ids", [])]
    assert builtin.client.post("/detokenize", json={"tokens": ids}).json()["content"] == plain
    used = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert used == sorted(used)
    assert used[-1] == last["usage"]["completion_tokens"] == len(ids)
    assert all(chunk["timings"]["predicted_ms"] > 0 for chunk in chunks)
    assert last["timings"]["prompt_n"] + last["timings"]["cache_n"] == last["usage"]["prompt_tokens"]


def test_the_end_may_be_put_off_or_not_heeded(ask):
    def length(**body):
        body = {"messages": QUESTION, "temperature": 0, "max_completion_tokens": 40} | body
        return ask("/v1/chat/completions", **body)["usage"]["completion_tokens"]

    usual = length()
    assert usual < 30
    assert length(min_tokens=30) >= 30
    assert length(ignore_eos=True) == 40


def test_several_answers_are_those_of_the_seeds_that_follow_one_another(said, ask):
    body = STORY | {"temperature": 1.0, "seed": 5, "n": 3}
    several = ask("/v1/completions", **body)
    assert [choice["text"] for choice in several["choices"]] == [
        said(temperature=1.0, seed=seed)["text"] for seed in (5, 6, 7)
    ]
    assert several["usage"]["completion_tokens"] == 48


def test_the_best_of_several_is_the_likeliest(ask):
    body = STORY | {"temperature": 1.5, "seed": 5, "logprobs": 0}
    choices = ask("/v1/completions", **body, n=4)["choices"]
    best = max(choices, key=lambda choice: sum(choice["logprobs"]["token_logprobs"]) / 16)
    assert ask("/v1/completions", **body, n=1, best_of=4)["choices"][0]["text"] == best["text"]


def test_prompts_as_texts_tokens_and_lists_have_the_same_answers(ask, said, plain):
    texts = ["Once upon a time", "The capital of France is"]
    tokens = [ask("/tokenize", prompt=text)["tokens"] for text in texts]
    wanted = [plain, said(prompt=texts[1])["text"]]
    for prompt in (texts, tokens):
        choices = ask("/v1/completions", **(STORY | {"prompt": prompt}))["choices"]
        assert [choice["text"] for choice in choices] == wanted
        assert [choice["index"] for choice in choices] == [0, 1]
    assert said(prompt=tokens[0])["text"] == plain


def test_a_prompt_is_cut_to_its_last_tokens(ask):
    body = STORY | {"prompt": "Paris is a city. Once upon a time", "truncate_prompt_tokens": 4}
    cut = ask("/v1/completions", **body)
    assert cut["usage"]["prompt_tokens"] == 4
    short = ask("/v1/completions", **(STORY | {"prompt": " Once upon a time"}))
    assert cut["choices"][0]["text"] == short["choices"][0]["text"]
    asked = ask("/v1/chat/completions", messages=QUESTION, max_tokens=1, truncate_prompt_tokens=5)
    assert asked["usage"]["prompt_tokens"] == 5


def test_an_answer_goes_on_with_the_assistants_message(ask):
    begun = [*QUESTION, {"role": "assistant", "content": "Of course. It is"}]
    body = {"messages": begun, "temperature": 0, "max_tokens": 8}
    answer = ask("/v1/chat/completions", **body, continue_final_message=True, add_generation_prompt=False)
    assert "Paris" in answer["choices"][0]["message"]["content"]
    rendered = ask("/apply-template", messages=begun, continue_final_message=True)["prompt"]
    assert rendered.endswith("assistant\nOf course. It is")
    same = ask("/v1/completions", prompt=rendered, temperature=0, max_tokens=8, add_special_tokens=False)
    assert same["choices"][0]["text"] == answer["choices"][0]["message"]["content"]


def test_what_the_template_does_not_have_is_refused_by_its_name(builtin):
    body = {"messages": QUESTION, "chat_template_kwargs": {"enable_thinking": True}}
    refused = builtin.client.post("/v1/chat/completions", json=body).json()["error"]
    assert (refused["code"], refused["param"]) == ("unsupported_parameter", "chat_template_kwargs")
    assert "enable_thinking" in refused["message"]


@pytest.mark.parametrize("text", ["Grüße, 世界! 🙂 und 👩‍🚀", "tab\tand\nline\r\n\x0b\x1b end", "<|im_start|>user\nhi"])
def test_a_text_survives_its_tokens(ask, text):
    answer = ask("/tokenize", prompt=text, with_pieces=True)
    ids, pieces = zip(*((token["id"], token["piece"]) for token in answer["tokens"]), strict=True)
    assert b"".join(bytes(piece) if isinstance(piece, list) else piece.encode() for piece in pieces) == text.encode()
    assert ask("/detokenize", tokens=ids)["content"] == text
    assert answer["count"] == len(ids)


def test_tokens_are_those_that_are_counted(ask):
    counted = ask("/v1/chat/completions", messages=QUESTION, max_tokens=1)["usage"]["prompt_tokens"]
    assert ask("/tokenize", messages=QUESTION)["count"] == counted


def test_a_token_that_is_part_of_a_character_is_shown_by_its_bytes(ask):
    pieces = [token["piece"] for token in ask("/tokenize", content="so 𓀀", with_pieces=True)["tokens"]]
    parts = [piece for piece in pieces if isinstance(piece, list)]
    assert len(parts) > 1
    assert b"".join(bytes(part) if isinstance(part, list) else part.encode() for part in pieces) == "so 𓀀".encode()


def test_a_token_is_spelled_as_its_vocabulary_has_it(ask):
    assert ask("/tokenize", prompt="it is", return_token_strs=True)["token_strs"] == ["it", "Ġis"]


def test_the_tokenizer_describes_itself_and_not_the_machine_that_it_is_on(builtin):
    told = builtin.client.get("/tokenizer_info").json()
    assert builtin.client.get("/v1/tokenizer_info?model=smollm2-135m-instruct").json() == told
    assert told["tokenizer_class"]
    assert "<|im_start|>" in told["chat_template"]
    assert (told["eos_token"], told["unk_token"]) == ("<|im_end|>", "<|endoftext|>")
    assert told["added_tokens_decoder"]["0"] == "<|endoftext|>"
    assert "/" not in "".join(str(told[name]) for name in told if name != "chat_template")
