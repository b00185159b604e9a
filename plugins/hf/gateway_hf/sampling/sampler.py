"""Draw the next tokens from the model's logits.

The order is that of transformers' logits processors: bias, repetition penalty, presence and frequency penalties, the
ban on ending early, the other bans, the constraint; then, unless greedy, temperature, top-k, top-p, min-p and the draw.
Each sequence draws from its own random numbers, one a token, so a seed means the same whatever else runs. A token that
a grammar forces takes none.
"""

import logging
import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from gateway.engine import EngineError
from gateway_hf.compute.kernels import Kernels
from gateway_hf.constrain.thought_guide import AnswerGuide
from gateway_hf.sampling.bans import Bans
from gateway_hf.sampling.kernel_draws import draw_by_kernels
from gateway_hf.sampling.likeliest import find_likeliest
from gateway_hf.sampling.terms import Terms

_log = logging.getLogger("gateway_hf")

_OFF = float("-inf")
# Where so many candidates hold `top_p` of the probability, the rest of the vocabulary need not be sorted.
_CANDIDATES = 1024


class Draws:
    """What the draws of one sequence depend on besides its logits; `prompt` is its tokens before the first draw.

    `fault` is what went wrong with this sequence alone. The tokens that a `guide` forces come next, whatever is likely.
    """

    def __init__(
        self,
        terms: Terms,
        prompt: Sequence[int],
        vocabulary: int,
        device: torch.device,
        guide: AnswerGuide | None = None,
    ) -> None:
        self.terms = terms
        self.fault: EngineError | None = None
        self.guide = guide
        self.random = random.Random(terms.seed)  # noqa: S311 - a seed must give the same text again; nothing is secret
        self._drawn = 0
        self._biased = torch.tensor(list(terms.logit_bias), dtype=torch.long, device=device)
        self._bias = torch.tensor(list(terms.logit_bias.values()), dtype=torch.float32, device=device)
        self._ends = torch.tensor(sorted(terms.end_ids), dtype=torch.long, device=device)
        self._seen = self._counts = None
        self._bans = Bans(terms, vocabulary, device) if terms.has_bans else None
        if terms.repetition_penalty != 1.0:
            self._seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
            self._seen[torch.tensor([token for token in prompt if token < vocabulary], device=device)] = True
        if terms.presence_penalty or terms.frequency_penalty:
            self._counts = torch.zeros(vocabulary, dtype=torch.float32, device=device)

    def adjust(self, logits: Tensor) -> None:
        """Change one row of logits `[vocabulary]` in place, as the tokens so far demand."""
        terms = self.terms
        if terms.logit_bias:
            logits.index_add_(0, self._biased, self._bias)
        if self._seen is not None:
            penalty = terms.repetition_penalty
            penalized = torch.where(logits < 0, logits * penalty, logits / penalty)
            torch.where(self._seen, penalized, logits, out=logits)
        if self._counts is not None:
            logits -= terms.presence_penalty * (self._counts > 0) + terms.frequency_penalty * self._counts
        may_end = self._drawn >= terms.min_tokens
        if not may_end:
            logits[self._ends] = _OFF
        if self._bans is not None:
            self._bans.adjust(logits)
        if self.guide is not None and not self.guide.forced:
            bias = self.guide.bias(logits.shape[-1], may_end=may_end)
            if bias is not None:
                logits += torch.from_numpy(bias).to(logits.device)

    def note(self, token: int) -> None:
        """Remember the token that was drawn."""
        self._drawn += 1
        if self._seen is not None:
            self._seen[token] = True
        if self._counts is not None:
            self._counts[token] += 1
        if self._bans is not None:
            self._bans.note(token)

    def take_forced(self, guide: AnswerGuide) -> list[int]:
        """Take all tokens that must follow, up to the limit of the answer."""
        try:
            taken = guide.take_forced(self.terms.limit - self._drawn)
        except EngineError as error:
            self.fault, taken = error, []
        for token in taken:
            self.note(token)
        return taken

    def go_on(self, guide: AnswerGuide, token: int) -> None:
        """Have the guide hear of the token that was drawn, and force the end of what is complete."""
        try:
            guide.take(token)
        except EngineError as error:
            self.fault = error
            return
        if not guide.is_done or token in self.terms.end_ids:
            return
        end = min(self.terms.eos_ids)
        if end not in guide.forced and self._drawn + len(guide.forced) >= self.terms.min_tokens:
            guide.forced.append(end)


def sample(logits: Tensor, draws: Sequence[Draws], kernels: Kernels | None = None) -> list[int | None]:
    """Draw one token a row; `None` where the logits hold no number to draw from.

    `logits` is float32 `[batch, vocabulary]`, one row for each of `draws`, and is overwritten. The `kernels` draw, or
    torch where there are none.
    """
    for row, drawing in zip(logits, draws, strict=True):
        try:
            drawing.adjust(row)
        except EngineError as error:
            drawing.fault = error
            row.fill_(torch.nan)
        except BaseException:  # noqa: BLE001 - whatever is wrong with one row is no reason to draw none
            _log.exception("the logits of one sequence cannot be adjusted")
            row.fill_(torch.nan)
    chosen = _likeliest(logits)
    forced = {
        at: drawing.guide.forced[0]
        for at, drawing in enumerate(draws)
        if drawing.guide is not None and drawing.guide.forced and chosen[at] is not None
    }
    for at, must in forced.items():
        chosen[at] = must
    drawn = [
        at
        for at, drawing in enumerate(draws)
        if chosen[at] is not None and at not in forced and not drawing.terms.greedy
    ]
    for at, token in zip(drawn, _draw_some(logits, draws, drawn, kernels), strict=True):
        chosen[at] = token
    for drawing, noted in zip(draws, chosen, strict=True):
        if noted is not None:
            drawing.note(noted)
            if drawing.guide is not None:
                drawing.go_on(drawing.guide, noted)
    return chosen


def _likeliest(logits: Tensor) -> list[int | None]:
    """Return each row's likeliest token, the first of several; `None` where the largest logit is no finite number."""
    tokens = find_likeliest(logits)
    best = logits.gather(1, tokens[:, None])[:, 0]
    return [token if sound else None for token, sound in zip(tokens.tolist(), best.isfinite().tolist(), strict=True)]


def _draw_some(logits: Tensor, draws: Sequence[Draws], rows: list[int], kernels: Kernels | None) -> list[int | None]:
    """Draw a token of each of some rows."""
    if not rows:
        return []
    terms = [draws[at].terms for at in rows]
    # Each takes its number before anything can fail, so that its later ones are the same.
    levels = [1.0 - draws[at].random.random() for at in rows]
    if kernels is not None:
        return draw_by_kernels(kernels, logits, rows, terms, levels)
    return _draw_rows(logits if len(rows) == len(draws) else logits[rows], terms, levels)


def _draw_rows(logits: Tensor, terms: Sequence[Terms], levels: Sequence[float]) -> list[int | None]:
    """Draw all rows at once, or where that fails each alone: one that cannot be drawn is no reason to draw none."""
    try:
        return [*_draw(logits, terms, levels)]
    except BaseException:  # noqa: BLE001 - as above
        if len(terms) == 1:
            _log.exception("no token can be drawn for one sequence")
            return [None]
    rows = zip(torch.split(logits, 1), terms, levels, strict=True)
    return [token for row, term, level in rows for token in _draw_rows(row, [term], [level])]


def _draw(logits: Tensor, terms: Sequence[Terms], levels: Sequence[float]) -> list[int]:
    """Draw by the inverse of the cumulative distribution, at the level from `(0, 1]` that is given for each row."""
    candidates, ids, totals = candidates_of(logits, terms)
    chances = probabilities(candidates, terms, totals)
    cumulative = chances.cumsum(dim=-1, dtype=torch.float64)
    level = cumulative.new_tensor([[each] for each in levels])
    # The first token whose cumulative probability reaches the level: one of probability zero never is.
    at = torch.searchsorted(cumulative, level * cumulative[:, -1:])
    if int(at.max()) >= cumulative.shape[-1]:
        raise ValueError("the probabilities are no numbers")
    return (at if ids is None else ids.gather(1, at)).squeeze(1).tolist()


def candidates_of(logits: Tensor, terms: Sequence[Terms]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Leave out, in a pass or two, most tokens that cannot be drawn: `[batch, vocabulary]` to `[batch, candidates]`.

    Also returns the candidates' ids, in order, and the log of each row's whole mass at its temperature; neither where
    all are candidates. The tokens left out are so unlikely that all of them together are no part of the nucleus.
    """
    if not all(each.top_p < 1.0 and not each.top_k for each in terms):
        return logits, None, None
    column, vocabulary = logits.new_tensor, logits.shape[-1]
    temperature = column([[each.temperature] for each in terms])
    total = (logits / temperature).logsumexp(dim=-1, keepdim=True)
    least = total + column([[math.log((1.0 - each.top_p) / vocabulary)] for each in terms])
    row, token = (logits >= least * temperature).nonzero().unbind(1)
    counts = row.bincount(minlength=len(terms))
    most = int(counts.max())
    if most > vocabulary // 4:
        return logits, None, None
    at = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    candidates = logits.new_full((len(terms), most), _OFF)
    candidates[row, at] = logits[row, token]
    ids = token.new_zeros(len(terms), most)
    ids[row, at] = token
    return candidates, ids, total


def probabilities(logits: Tensor, terms: Sequence[Terms], totals: Tensor | None = None) -> Tensor:
    """Turn adjusted logits `[batch, vocabulary]` into what each row is drawn from; none is greedy.

    `totals` `[batch, 1]` is the log of what the row's mass is measured by, where that is more than is in `logits`.
    """
    column = logits.new_tensor
    if any(each.temperature != 1.0 for each in terms):
        logits = logits / column([[each.temperature] for each in terms])
    if any(each.top_k for each in terms):
        logits = _top_k(logits, [each.top_k for each in terms])
    if any(each.top_p < 1.0 for each in terms):
        logits = _top_p(logits, column([[each.top_p] for each in terms]).double(), totals)
    result = logits.softmax(dim=-1)
    if any(each.min_p for each in terms):
        least = column([[each.min_p] for each in terms]) * result.amax(dim=-1, keepdim=True)
        result = logits.masked_fill(result < least, _OFF).softmax(dim=-1)
    return result


def _top_k(logits: Tensor, kept: list[int]) -> Tensor:
    """Keep each row's `kept` highest logits and what ties with the last of them; 0 keeps all."""
    ranks = [min(k, logits.shape[-1]) for k in kept]
    highest = logits.topk(max(ranks)).values
    at = torch.tensor([[max(rank - 1, 0)] for rank in ranks], device=logits.device)
    limited = torch.tensor([[rank > 0] for rank in ranks], device=logits.device)
    return logits.masked_fill(limited & (logits < highest.gather(1, at)), _OFF)


def _top_p(logits: Tensor, mass: Tensor, totals: Tensor | None) -> Tensor:
    """Keep in each row the likeliest tokens that together reach `mass`, and always the likeliest."""
    vocabulary = logits.shape[-1]
    wide = logits.double()
    probability = wide.softmax(dim=-1) if totals is None else (wide - totals).exp()
    everything = mass >= 1.0
    for candidates in (min(_CANDIDATES, vocabulary), vocabulary):
        likely, at = probability.topk(candidates)
        kept = likely.cumsum(dim=-1) - likely < mass
        if not bool((kept[:, -1:] & ~everything).any()):
            break
    kept[:, 0] = True
    nucleus = torch.full_like(logits, _OFF).scatter(1, at, logits.gather(1, at).masked_fill(~kept, _OFF))
    return torch.where(everything, logits, nucleus)
