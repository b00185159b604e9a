import math

from gateway.engine import TokenLogprob
from gateway_hf.scheduling.sequence import Alternative
from gateway_hf.text.prompt_scores import ScoredPrompt
from gateway_hf.text.writer import LEAST_LOGPROB, TokenName


def _prompt(*texts):
    return ScoredPrompt(5, texts, lambda token: TokenName(f"<{token}>"))


def test_the_first_token_has_nothing_before_it():
    assert _prompt("a", "b").told == (TokenLogprob(5, "a", 0.0),)


def test_each_token_has_its_own_text_and_others_have_their_names():
    prompt = _prompt("a", "b")
    prompt.hear([(Alternative(7, -2.0), Alternative(8, -1.0), Alternative(7, -2.0))])
    top = (TokenLogprob(8, "<8>", -1.0), TokenLogprob(7, "b", -2.0))
    assert prompt.told[1:] == (TokenLogprob(7, "b", -2.0, top),)


def test_scores_that_come_in_parts_are_told_once():
    scores, prompt = [(Alternative(at, -float(at)),) for at in range(1, 5)], _prompt(*"abcde")
    for end in (0, 1, 1, 3, 4, 4):
        prompt.hear(scores[:end])
        assert len(prompt.told) == 1 + end
    assert [(token.text, token.logprob) for token in prompt.told[1:]] == [
        (t, -float(n)) for n, t in enumerate("bcde", 1)
    ]


def test_the_impossible_is_a_number_still():
    prompt = _prompt("a", "b")
    prompt.hear([(Alternative(7, -math.inf),)])
    assert prompt.told[1].logprob == LEAST_LOGPROB
