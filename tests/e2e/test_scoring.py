"""What the service says of how likely texts are is what one plain forward pass of transformers says, in float32."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.hf_engine import builtin_folder
from tests.support.service import Service

pytestmark = pytest.mark.slow

CLOSE = 1e-3
MODEL = "smollm2-135m-instruct"
# An answer that is kept would be told again, not computed.
FRESH = {"cache-control": "no-store"}
ENGLISH = (
    "The capital of France is Paris, and the river that runs through it is the Seine. In the summer of the year when "
    "my grandfather was born, nobody there had yet seen a telephone; still, letters arrived twice a day, rain or shine "
    "and were read aloud at supper to whoever happened to sit at the table"
)
CODE = (
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n\n"
    'for (let i = 0; i < 10; i++) {\n\tconsole.log(`${i}: "x"`);\n}\nSELECT * FROM users WHERE id IN (1, 2);'
)
CJK = "你好世界。今天天气很好、我们去公园散步吧。日本の首都は「東京」です。한국의 수도는 서울입니다. 春眠不覺曉。"
EMOJI = "I ❤️ pizza 🍕 and 🇫🇷 wine 🍷! 👩‍🚀 flew to the 🌙; naïve café señor 👍🏽 Größe — «œuvre» … Привет, мир 🚀"
NUMBERS = "3.14159265 2,718 1e-9 0x1F + 42 = 73; 1234567890 * 17 % 5 -- 2024-02-29T12:00Z $99.95 €1.000,00 -40°C ½ 10⁻³"


@pytest.fixture(scope="module")
def loading():
    settings = {"MODEL": str(builtin_folder()), "SERVED_NAME": MODEL, "DTYPE": "float32"}
    named = {f"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__{name}": value for name, value in settings.items()}
    with Service(ENGINE="hf", ready=False, **named) as running:
        yield running


@pytest.fixture(scope="module")
def reference(loading):
    """The reference, made while the service loads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Reference()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def gateway(loading, reference):
    loading.wait_for("/readyz", seconds=180)
    return loading


class Reference:
    """The same weights in transformers' own code, one text at a time and no batch.

    It computes in one thread: two that wait for each other beside a service that computes take five times as long.
    """

    def __init__(self):
        folder = builtin_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        self._model = model.eval()
        self._pass = lru_cache(2)(self._one_pass)
        self.sum_of = cache(self._sum_of)

    def natural(self, ids):
        """Return the log probabilities `[len(ids), vocabulary]` after each token."""
        return self._pass(tuple(ids))

    def scores(self, ids):
        """Say the log probability of each token but the first."""
        return self.natural(ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()

    @torch.inference_mode()
    def greedy(self, ids, new):
        """Go on with `new` tokens, the likeliest each."""
        whole, read, memory = list(ids), list(ids), None
        for _ in range(new):
            step = self._model(torch.tensor([read]), past_key_values=memory, use_cache=True)
            read, memory = [int(step.logits[0, -1].argmax())], step.past_key_values
            whole += read
        return whole

    def _sum_of(self, text):
        return sum(self.scores(self.tokenizer(text).input_ids))

    @torch.inference_mode()
    def _one_pass(self, ids):
        return self._model(torch.tensor([ids])).logits[0].log_softmax(-1)


def _pieces(reference):
    """Cut texts of so many tokens or little more out of the long ones, each from its own place on."""
    for text in (ENGLISH, CODE, CJK, EMOJI, NUMBERS):
        for start, least in enumerate((5, 9, 14, 20, 27, 33, 39, 44, 49, 54)):
            cuts = (text[start:end] for end in range(start, len(text) + 1))
            yield next(cut for cut in cuts if len(reference.tokenizer(cut).input_ids) >= least)


@pytest.fixture(scope="module")
def texts(reference):
    found = list(_pieces(reference))
    sizes = [len(reference.tokenizer(text).input_ids) for text in found]
    assert len(set(found)) == 50
    assert min(sizes) >= 5
    assert max(sizes) <= 60
    return found


def post(gateway, path="/v1/completions", **body):
    answer = gateway.client.post(path, json={"model": MODEL} | body, headers=FRESH)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"]


def scored(gateway, prompt, **body):
    return post(gateway, prompt=prompt, **{"echo": True, "logprobs": 1, "max_tokens": 0} | body)


def sum_of(choice, tokens=None):
    """Add up a prompt's log probabilities; the first token has none."""
    first, *rest = choice["logprobs"]["token_logprobs"][:tokens]
    assert first is None
    return sum(rest)


def test_alone_the_sum_is_that_of_a_plain_pass(gateway, reference, texts):
    worst = 0.0
    for number, text in enumerate(texts):
        size = len(reference.tokenizer(text).input_ids)
        (choice,) = scored(gateway, text, max_tokens=number % 2)
        told = choice["logprobs"]["token_logprobs"]
        assert len(told) == size + number % 2
        worst = max(worst, abs(sum_of(choice, size) - reference.sum_of(text)))
    print(f"alone, 50 texts: off by {worst:.1e} at most")
    assert worst < CLOSE


def test_sixteen_at_a_time_the_sum_is_that_of_a_plain_pass(gateway, reference, texts):
    with ThreadPoolExecutor(16) as pool:
        choices = [choice for (choice,) in pool.map(lambda text: scored(gateway, text), texts)]
    off = [abs(sum_of(choice) - reference.sum_of(text)) for text, choice in zip(texts, choices, strict=True)]
    print(f"sixteen at a time, 50 texts: off by {max(off):.1e} at most")
    assert max(off) < CLOSE


def test_a_list_of_texts_or_of_tokens_has_the_same_scores(gateway, reference, texts):
    some = texts[::7]
    ids = [reference.tokenizer(text).input_ids for text in some]
    as_texts, as_tokens = scored(gateway, some), scored(gateway, ids)
    (alone,) = scored(gateway, ids[0])
    for text, one, other in zip(some, as_texts, as_tokens, strict=True):
        assert sum_of(one) == pytest.approx(reference.sum_of(text), abs=CLOSE)
        assert other["logprobs"]["token_logprobs"] == pytest.approx(one["logprobs"]["token_logprobs"], abs=1e-4)
        assert (one["text"], other["text"]) == (text, text)
        assert one["logprobs"]["tokens"] == other["logprobs"]["tokens"]
    assert alone["logprobs"]["tokens"] == as_tokens[0]["logprobs"]["tokens"]


def test_every_token_has_its_own_score_and_its_own_place(gateway, reference):
    (choice,) = scored(gateway, ENGLISH, logprobs=3)
    ids = reference.tokenizer(ENGLISH).input_ids
    told, natural = choice["logprobs"], reference.natural(ids)
    assert told["token_logprobs"][1:] == pytest.approx(reference.scores(ids), abs=CLOSE)
    assert "".join(told["tokens"]) == ENGLISH
    assert told["text_offset"] == [0, *itertools.accumulate(map(len, told["tokens"][:-1]))]
    for top, row in zip(told["top_logprobs"][1:], natural, strict=False):
        assert sorted(top.values(), reverse=True)[:3] == pytest.approx(row.topk(3).values.tolist(), abs=CLOSE)


def test_prompt_logprobs_say_the_same(gateway, reference):
    ids = reference.tokenizer(CODE).input_ids
    (choice,) = post(gateway, prompt=CODE, prompt_logprobs=2, max_tokens=1)
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    assert [table[str(token)]["logprob"] for token, table in zip(ids[1:], rest, strict=True)] == pytest.approx(
        reference.scores(ids), abs=CLOSE
    )
    for table, row in zip(rest, reference.natural(ids), strict=False):
        ranked = {entry["rank"]: int(token) for token, entry in table.items() if entry["rank"] is not None}
        assert [ranked[1], ranked[2]] == row.topk(2).indices.tolist()


@pytest.mark.parametrize("question", ["What is the capital of France?", "Count from one to five."])
def test_a_greedy_chat_has_the_logprobs_of_a_plain_pass(gateway, reference, question):
    messages = [{"role": "user", "content": question}]
    prompt = reference.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    whole = reference.greedy(prompt, 6)
    fields = {"messages": messages, "temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 4}
    (choice,) = post(gateway, "/v1/chat/completions", **fields)
    told, natural = choice["logprobs"]["content"], reference.natural(whole)[len(prompt) - 1 :]
    assert [entry["token"] for entry in told] == [reference.tokenizer.decode([token]) for token in whole[len(prompt) :]]
    for entry, token, row in zip(told, whole[len(prompt) :], natural, strict=False):
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=CLOSE)
        top = [other["logprob"] for other in entry["top_logprobs"]]
        assert top == pytest.approx(row.topk(4).values.tolist(), abs=CLOSE)
