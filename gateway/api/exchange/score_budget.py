"""The log-probabilities that one reply may hold: tokens times what is told of each, of all prompts and answers.

A scored token has its own log-probability and those of its alternatives. An answer's length is bounded before
it is made. A prompt's length in tokens is known from its ids, or when the engine has read it. The ids of prompts, which
each of its answers tells, are bounded too: so many for each log-probability as take its bytes.
"""

from msgspec import structs

from gateway.api.exchange.asked import Prompts
from gateway.engine import Capability, GenerateRequest, InvalidRequest, ModelCard, Started, Tokens

SETTING = "server.max_logprobs"
# A log-probability takes some 60 bytes of a reply, an id up to 7.
_IDS_EACH = 8


class ScoreBudget:
    """Holds one reply to `most` log-probabilities; a refusal names the field that asks for too many."""

    def __init__(self, prompts: Prompts, card: ModelCard, most: int) -> None:
        self._prompts = prompts
        self._card = card
        self._most = most
        self._used = self._told_ids = 0
        sampling = prompts.requests[0].sampling
        self._of_prompts = _told(sampling.prompt_logprobs)
        self._of_answers = _told(sampling.logprobs)
        self._has_ids = bool(sampling.token_ids)

    @property
    def has_prompts(self) -> bool:
        """Whether the prompts' tokens are scored, or told by their ids."""
        return self._of_prompts > 0 or self._has_ids

    @property
    def used(self) -> int:
        """The log-probabilities that were counted, of answers as many as they may have."""
        return self._used

    def check_prompts(self) -> None:
        """Raise `InvalidRequest` where the prompts' ids alone are too many to be scored."""
        self._check(self._ids() * self._of_prompts, Capability.PROMPT_LOGPROBS, "the prompts' tokens")

    def bound_answers(self) -> Prompts:
        """Count the longest answers, and return the prompts; answers of unstated length may be as long as is left.

        Raises `InvalidRequest` where their stated length is too much.
        """
        if not self._of_answers:
            return self._prompts
        requests = self._prompts.requests
        answers = self._prompts.best_of * len(requests)
        stated = requests[0].sampling.max_tokens
        usual = self._card.under(requests[0].defaults).defaults.max_tokens
        length = min(stated or usual or self._card.context_window, self._card.context_window)
        each = answers * self._of_answers
        if stated is None and length * each > self._left_for_answers():
            length = max(self._left_for_answers() // each, 1)
            requests = tuple(_shortened(request, length) for request in requests)
        what = f"{answers} answers of {length} tokens" if answers > 1 else f"an answer of {length} tokens"
        self._take(length * each, Capability.LOGPROBS, what)
        return structs.replace(self._prompts, requests=requests)

    def see(self, started: Started) -> int:
        """Count the scores and ids of a prompt that was read, and return their number.

        Raises `InvalidRequest` for too many.
        """
        count = len(started.prompt_logprobs or ()) * self._of_prompts
        self._take(count, Capability.PROMPT_LOGPROBS, "the prompts' tokens")
        ids = len(started.prompt_ids or ())
        self._take_ids(ids)
        return count + ids

    def _take_ids(self, count: int) -> None:
        most = self._most * _IDS_EACH
        self._told_ids += count
        if self._told_ids > most:
            raise InvalidRequest(
                f"the prompts have more than {most} ids of tokens, told with each answer; that is the most in one reply"
                f" ({_IDS_EACH} times {SETTING}); ask for fewer answers or shorter prompts, or for no ids",
                param=Capability.TOKEN_IDS,
            )

    def _ids(self) -> int:
        found = (request for request in self._prompts.requests if isinstance(request.prompt, Tokens))
        return self._prompts.best_of * sum(_read(request) for request in found)

    def _left_for_answers(self) -> int:
        """Return what the prompts leave; where the length of one is not known yet, half of that."""
        left = self._most - self._ids() * self._of_prompts
        are_known = all(isinstance(request.prompt, Tokens) for request in self._prompts.requests)
        return left if are_known or not self._of_prompts else left // 2

    def _take(self, count: int, field: str, what: str) -> None:
        self._check(count, field, what)
        self._used += count

    def _check(self, count: int, field: str, what: str) -> None:
        if self._used + count > self._most:
            told = self._of_answers if field == Capability.LOGPROBS else self._of_prompts
            already = f" beside {self._used}" if self._used else ""
            raise InvalidRequest(
                f"{what}, with {told} for each token, have {count} log-probabilities{already}; {self._most} are the"
                f" most in one reply ({SETTING})",
                param=field,
            )


def budget_of(prompts: Prompts, card: ModelCard, most: int) -> ScoreBudget | None:
    """Make the budget of a body; `None` where no token is scored or told by its id."""
    sampling = prompts.requests[0].sampling
    if sampling.logprobs is None and sampling.prompt_logprobs is None and not sampling.token_ids:
        return None
    return ScoreBudget(prompts, card, most)


def _told(alternatives: int | None) -> int:
    return 0 if alternatives is None else 1 + alternatives


def _read(request: GenerateRequest) -> int:
    ids = len(request.prompt.ids) if isinstance(request.prompt, Tokens) else 0
    return ids if request.truncate is None else min(ids, request.truncate)


def _shortened(request: GenerateRequest, length: int) -> GenerateRequest:
    return structs.replace(request, defaults=structs.replace(request.defaults, max_tokens=length, max_length=None))
