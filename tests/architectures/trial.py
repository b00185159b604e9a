"""One type against `generate()`: prompts short and long, alone and side by side, greedy, in float32."""

import asyncio
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gateway.engine import Answer, EngineError, LoadFailed, Sampling, Tokens, collect
from gateway_hf.engine import HfEngine
from gateway_hf.settings import Settings
from tests.architectures.tiny import CONTEXT, NotBuilt, make
from tests.support.hf_engine import ask, numbers

NEW = 24
# Beyond the window, beyond a step, and beyond what scans of states are cut into.
PROMPTS = (6, 70, 610)
# Logits nearer than this, as a part of their spread, are a tie, which rounding decides.
_TIE = 1e-3


class Verdict(NamedTuple):
    """What came of a type, and how it runs, or why it does not."""

    kind: str
    says: Literal["the same", "nothing: refused", "nothing: not tried", "something else"]
    how: str

    @property
    def wrong(self) -> bool:
        """Whether it was served and did not say what `generate()` says."""
        return self.says == "something else"


def try_kind(kind: str, folder: Path, lengths: tuple[int, ...] = PROMPTS, **changes: object) -> Verdict:
    """Build a type in `folder`, load it, and compare what it says after prompts of these lengths."""
    prompts = [numbers(length, length) for length in lengths]
    try:
        make(kind, folder, **changes)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        said = [_generated(model, ids) for ids in prompts]
    except NotBuilt as error:
        return Verdict(kind, "nothing: not tried", str(error))
    except Exception as error:  # noqa: BLE001 - a model's own code may raise anything
        why = " ".join(str(error).split())[:100]
        return Verdict(kind, "nothing: not tried", f"generate() raises {type(error).__name__}: {why}")
    try:
        note, answers = asyncio.run(_answers(folder, prompts))
    except LoadFailed as error:
        return Verdict(kind, "nothing: refused", error.message)
    except EngineError as error:
        return Verdict(kind, "something else", f"an error: {error.message}")
    wrong = {
        len(ids)
        for ids, answer, (theirs, logits) in zip(prompts * 2, answers, said * 2, strict=True)
        if not _same(answer, theirs, logits)
    }
    how = note or "batched"
    if wrong:
        return Verdict(kind, "something else", f"after {sorted(wrong)} tokens; {how}")
    return Verdict(kind, "the same", how)


@torch.inference_mode()
def _generated(model: PreTrainedModel, ids: list[int]) -> tuple[list[int], torch.Tensor]:
    """Return what `generate()` says, and the logits `[NEW, vocabulary]` that it says it by."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[0, len(ids) :].tolist(), torch.cat(out.logits)


async def _answers(folder: Path, prompts: list[list[int]]) -> tuple[str, list[Answer]]:
    """Return the note on the model's card, and the answers alone and side by side."""
    # What was said of golden prompts is kept by the weights, and random ones are alike in more than one type.
    settings = Settings(
        model=str(folder), dtype="float32", threads=1, step_tokens=64, context_window=CONTEXT, max_drift=100
    )
    async with HfEngine(settings) as engine:
        alone = [await _answer(engine, ids) for ids in prompts]
        together = await asyncio.gather(*[_answer(engine, ids) for ids in prompts])
        return engine.models()[0].note, [*alone, *together]


async def _answer(engine: HfEngine, ids: list[int]) -> Answer:
    sampling = Sampling(temperature=0.0, max_tokens=NEW, ignore_eos=True, logprobs=0)
    return await collect(engine.generate(ask(Tokens(tuple(ids)), sampling)))


def _same(answer: Answer, theirs: list[int], logits: torch.Tensor) -> bool:
    """Compare up to the first tie."""
    for token, wanted, row in zip(answer.logprobs, theirs, logits, strict=True):
        if token.id != wanted:
            return bool(row[wanted] - row[token.id] < _TIE * row.std())
    return True
