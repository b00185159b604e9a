"""PEFT itself, in a process that has it: makes adapters, saves them, loads them again, and says what they say.

It reads one JSON object from its standard input and writes one: of each adapter and prompt the tokens that are drawn
greedily, and the logarithm of the probability of each. It imports nothing of this repository.
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, __version__, get_peft_model
from transformers import AutoModelForCausalLM


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.inference_mode()
def say(model, ids, new):
    prompt = torch.tensor([ids])
    out = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = out.sequences[0, len(ids) :].tolist()
    rows = torch.cat(out.logits).log_softmax(-1)
    return {"tokens": tokens, "logprobs": [float(row[token]) for row, token in zip(rows, tokens, strict=True)]}


def main():
    asked = json.load(sys.stdin)
    told = {"": [say(load(asked["base"]), ids, asked["new"]) for ids in asked["prompts"]]}
    for seed, (name, given) in enumerate(asked["adapters"].items()):
        torch.manual_seed(seed)
        # Without its own initialization, after which an adapter changes nothing until it is trained.
        config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **given)
        folder = Path(asked["folder"], name)
        get_peft_model(load(asked["base"]), config).save_pretrained(folder)
        model = PeftModel.from_pretrained(load(asked["base"]), folder).eval()
        told[name] = [say(model, ids, asked["new"]) for ids in asked["prompts"]]
    json.dump({"version": __version__, "told": told}, sys.stdout)


main()
