"""No step is quadratic in what a client sends: four times the input is at most five times the work.

Work is counted, not timed: lines that are run, ids that a tokenizer decodes, characters that are looked through.
"""

import sys

import msgspec
import pytest

from gateway.api.http.body import RequestBody
from gateway.api.openai.logprobs import to_text_logprobs
from gateway.api.openai.schema import ChatCompletionBody
from gateway.engine import Chat, Completion, Message, StopStrings, Text, TokenLogprob
from gateway_hf.scheduling.drafter import Drafter
from gateway_hf.text.codec import TextCodec
from gateway_hf.text.token_names import TokenNames
from tests.support.tiny_models import make_tokenizer

FEW, TIMES = 500, 4


class Work:
    """Counts the lines that are run inside it, and what the counting inputs add."""

    done = 0

    def __enter__(self):
        Work.done = 0
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, *_):
        Work.done += 1
        return self._trace

    @staticmethod
    def add(size):
        Work.done += size


class CountedTokenizer:
    """A tokenizer that counts what it is given."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def decode(self, ids, **options):
        Work.add(len(ids))
        return self._tokenizer.decode(ids, **options)

    def encode_batch_fast(self, texts, **options):
        Work.add(sum(map(len, texts)))
        return self._tokenizer.encode_batch_fast(texts, **options)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


class CountedText(str):
    """A text that counts the characters that are looked through or copied."""

    __slots__ = ()

    def find(self, what, begin=0, *end):
        found = str.find(self, what, begin, *end)
        Work.add((len(self) if found < 0 else found + len(what)) - begin)
        return found

    def startswith(self, what, *rest):
        Work.add(len(what))
        return str.startswith(self, what, *rest)

    def __getitem__(self, at):
        part = str.__getitem__(self, at)
        Work.add(len(part))
        return CountedText(part)

    def __radd__(self, other):
        Work.add(len(self) + len(other))
        return CountedText(str.__add__(other, self))

    def __add__(self, other):
        Work.add(len(self) + len(other))
        return CountedText(str.__add__(self, other))


def work(step, count):
    with Work():
        step(count)
    return Work.done


def codec():
    made = TextCodec(make_tokenizer(begins=True, chats=True), vocabulary=384, context_window=1 << 16)
    made._backend = CountedTokenizer(made._backend)
    return made


def lone_byte(text):
    return text._backend.token_to_id("ð")


def decode(what):
    text = codec()
    token = {"lone bytes": lone_byte(text), "letters": text._backend.token_to_id("a"), "special": 2, "none": 383}[what]
    return lambda count: text.detokenize([token] * count)


def stream(what):
    text = codec()
    token = {"lone bytes": lone_byte(text), "special": 2}[what]

    def step(count):
        detokenizer = text.detokenizer()
        for _ in range(count):
            detokenizer.feed(token)
        detokenizer.flush()

    return step


def name_tokens():
    text = codec()
    token = lone_byte(text)
    return lambda count: TokenNames(text).of_prompt(Completion("ð"), [token] * count)


def spell():
    text = codec()
    return lambda count: text.spell([lone_byte(text)] * count)


def stop(piece):
    stops = tuple(CountedText("a" * length + "b") for length in (100, 31, 7))

    def step(count):
        matcher = StopStrings(stops)
        for _ in range(count):
            matcher.feed(CountedText(piece))
        matcher.flush()

    return step


def chat(turn):
    text = codec()
    return lambda count: text.encode(Chat(tuple(Message("user", (Text(turn),)) for _ in range(count))))


def markers(marker):
    text = codec()
    return lambda count: text.encode(Chat((Message("user", (Text(marker * count),)),)))


def logprobs():
    token = TokenLogprob(1, "a", -1.0, (TokenLogprob(1, "a", -1.0),) * 2)
    return lambda count: to_text_logprobs((), (token,) * count)


def decode_json(extra):
    decoder = msgspec.json.Decoder(ChatCompletionBody)

    def step(count):
        message = {"role": "user", "content": "x"} | extra
        body = RequestBody(msgspec.json.encode({"messages": [message] * count}))
        body.unknown(body.decode(decoder))

    return step


def draft(period):
    def step(count):
        drafter, tokens = Drafter(), []
        for at in range(count):
            tokens.append(at % period)
            drafter.learn(tokens[-1:])
            drafter.propose(tokens, 4)

    return step


STEPS = {
    **{f"decode {what}": lambda what=what: decode(what) for what in ("lone bytes", "letters", "special", "none")},
    **{f"stream {what}": lambda what=what: stream(what) for what in ("lone bytes", "special")},
    "name tokens": name_tokens,
    "spell": spell,
    **{f"stop after {piece}": lambda piece=piece: stop(piece) for piece in ("a", "aaaac", "x")},
    **{f"chat of {turn}": lambda turn=turn: chat(turn) for turn in ("hello", "<|end|>")},
    **{f"markers {each}": lambda each=each: markers(each) for each in ("<|im_end|>", "<|im_", "<")},
    "log probabilities": logprobs,
    "json": lambda: decode_json({}),
    "json with strays": lambda: decode_json({"stray": [1, {"a": "b"}]}),
    **{f"draft of {period}": lambda period=period: draft(period) for period in (1, 7, 1 << 20)},
}


@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
def test_four_times_the_input_is_at_most_five_times_the_work(make):
    step = make()
    step(1)  # what is compiled or remembered once
    few, many = work(step, FEW), work(step, TIMES * FEW)
    assert few > FEW / 10
    assert many <= (TIMES + 1) * few
