"""Give the answers that decode guesses at their next tokens: from their own past, or by a draft model."""

from collections.abc import Sequence as Some
from typing import Protocol

from gateway_hf.constrain.thought_guide import AnswerGuide
from gateway_hf.draft_model import DraftModel
from gateway_hf.sampling.terms import Terms
from gateway_hf.scheduling.drafter import Drafter, Guessing, worthwhile
from gateway_hf.scheduling.scheduler import Scheduler
from gateway_hf.scheduling.sequence import Sequence


class Guessed(Protocol):
    """An answer that may have guesses."""

    sequence: Sequence
    terms: Terms
    drafter: Drafter
    guide: AnswerGuide | None


class Speculation:
    """Gives as many guesses as come true more often than they cost, and none beyond an answer's limit."""

    def __init__(self, scheduler: Scheduler, guessing: Guessing, draft: DraftModel | None = None) -> None:
        self._scheduler = scheduler
        self._guessing = guessing
        self._draft = draft

    def guess(self, answers: Some[Guessed]) -> None:
        """Give each of the answers that decode a draft, or none."""
        if not answers or len(answers) > self._guessing.answers:
            return
        price = self._scheduler.price_of_guess(len(answers))
        open_: list[tuple[Guessed, int]] = []
        for answer in answers:
            most = self._most(answer)
            drafter = answer.drafter
            draft = drafter.propose(answer.sequence.tokens, most)[: worthwhile(drafter.rate.share, price, most)]
            answer.sequence.draft = draft if answer.guide is None else answer.guide.draft(draft, most)
            if not answer.sequence.draft and most > 0:
                open_.append((answer, most))
        if self._draft is not None and open_:
            self._ask(self._draft, open_, len(answers))

    def forget(self, sequence: Sequence) -> None:
        """Drop what is held for a sequence; harmless when that is nothing."""
        if self._draft is not None:
            self._draft.forget(sequence)

    def _most(self, answer: Guessed) -> int:
        left = answer.terms.limit - (len(answer.sequence.tokens) - answer.sequence.prompt_tokens)
        return min(self._guessing.most, left - 1)

    def _ask(self, draft: DraftModel, answers: list[tuple[Guessed, int]], decoding: int) -> None:
        """Let the draft model guess for answers whose own past says nothing."""
        price = self._scheduler.price_of_guess(decoding, draft.seconds / len(answers))
        wanted: list[tuple[Guessed, int]] = []
        for answer, most in answers:
            rate = draft.rate(answer.sequence)
            count = worthwhile(rate.share, price, most)
            if count and self._scheduler.reserve(answer.sequence, count):
                wanted.append((answer, count))
            else:
                rate.fade()
        guesses = draft.propose([(answer.sequence, count) for answer, count in wanted]) if wanted else []
        for (answer, count), found in zip(wanted, guesses, strict=True):
            answer.sequence.draft = found if answer.guide is None else answer.guide.draft(found, count)
