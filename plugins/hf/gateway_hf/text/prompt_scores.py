"""A prompt with its scores, put into the words of the interface as they come."""

from collections.abc import Callable, Sequence

from gateway.engine import TokenLogprob
from gateway_hf.scheduling.sequence import Alternative
from gateway_hf.text.writer import TokenName, scored


class ScoredPrompt:
    """What `Started` says of a prompt; `texts` has what each of its tokens adds, `name` names others.

    Nothing comes before the first token: its log probability is 0, and nothing is likelier.
    """

    def __init__(self, first: int, texts: Sequence[str], name: Callable[[int], TokenName]) -> None:
        self._texts = texts
        self._name = name
        self._told = [TokenLogprob(first, texts[0], 0.0)]

    def hear(self, scores: Sequence[tuple[Alternative, ...]]) -> None:
        """Take what is new of the scores, which only grow: there is one for each token but the first."""
        for own, *likeliest in scores[len(self._told) - 1 :]:
            here = TokenName(self._texts[len(self._told)])
            top = [scored(each, here if each.id == own.id else self._name(each.id)) for each in likeliest]
            self._told.append(scored(own, here, tuple(top)))

    @property
    def told(self) -> tuple[TokenLogprob, ...]:
        """All tokens that were scored so far."""
        return tuple(self._told)
