"""Make the golden prompts of the built-in model, `just golden`: in float32, by the model's own code."""

import sys

import msgspec
import torch

from gateway_hf.golden.check import BUILTIN
from gateway_hf.golden.prompts import Golden, Logprobs, PromptTokens, read_prompts
from gateway_hf.loading import metadata, pretrained, sources
from gateway_hf.loading.identity import build_of
from gateway_hf.settings import Settings
from gateway_hf.text.codec import TextCodec

# Of a log probability; float32 has no more.
_DIGITS = 6


@torch.inference_mode()
def make_golden() -> Golden:
    """Score the golden prompts with the built-in model as transformers runs it; raise `LoadFailed`."""
    source = sources.find(Settings(dtype="float32"), torch.float32)
    tokenizer = pretrained.read_tokenizer(source)
    model = pretrained.read_model(source, torch.float32, torch.device("cpu"))
    window = metadata.context_window(model, tokenizer)
    text = TextCodec(tokenizer, vocabulary=metadata.vocabulary(model), context_window=window)
    prompts = read_prompts(text, window)
    return Golden(build_of(source, "float32"), prompts, _score(model, prompts))


def _score(model: torch.nn.Module, prompts: PromptTokens) -> Logprobs:
    said = []
    for ids in prompts:
        natural = model(torch.tensor([ids])).logits[0, :-1].log_softmax(dim=-1)
        own = natural.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        said.append(tuple(round(each, _DIGITS) for each in own.tolist()))
    return tuple(said)


if __name__ == "__main__":
    BUILTIN.write_bytes(msgspec.json.format(msgspec.json.encode(make_golden()), indent=1) + b"\n")
    sys.stdout.write(f"{BUILTIN}\n")
