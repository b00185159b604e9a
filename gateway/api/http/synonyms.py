"""Parameter names of other servers and libraries, each with its name here."""

from collections.abc import Mapping

# They ask for a shape of the answer. To drop one of them would be to answer something else than was asked for.
SHAPES = frozenset(
    {
        "ebnf",
        "guided_decoding",
        "format",
        "grammar",
        "grammar_lazy",
        "grammar_triggers",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_json_object",
        "guided_regex",
        "guided_whitespace_pattern",
        "json_mode",
        "json_object",
        "json_schema",
        "lark_grammar",
        "output_format",
        "regex",
        "response_format",
        "response_mime_type",
        "response_schema",
        "responseMimeType",
        "responseSchema",
        "schema",
        "structural_tag",
        "structured_outputs",
    }
)

_LENGTH = ("max_completion_tokens", "max_tokens", "max_new_tokens")
_LEAST = ("min_tokens", "min_new_tokens")
_STOP = ("stop", "stop_sequences")
_PROMPT = ("prompt", "messages")
_SYSTEM = ("system",)
_TEMPLATE = ("chat_template_kwargs",)

# Word -> the names that it may have here; of a body's own parameters the first one counts.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "max_completion_tokens": _LENGTH,
    "max_gen_len": _LENGTH,
    "max_length": _LENGTH,
    "max_new_tokens": _LENGTH,
    "max_output_tokens": _LENGTH,
    "max_tokens": _LENGTH,
    "max_tokens_to_sample": _LENGTH,
    "maxOutputTokens": _LENGTH,
    "n_predict": _LENGTH,
    "num_predict": _LENGTH,
    "min_length": _LEAST,
    "min_new_tokens": _LEAST,
    "min_tokens": _LEAST,
    "stop": _STOP,
    "stop_sequences": _STOP,
    "stop_strings": _STOP,
    "stop_words": _STOP,
    "stopSequences": _STOP,
    "return_tokens": ("return_token_ids",),
    "rep_pen": ("repetition_penalty",),
    "repeat_penalty": ("repetition_penalty",),
    "best_of_n": ("best_of",),
    "candidate_count": ("n",),
    "n_cmpl": ("n",),
    "num_completions": ("n",),
    "num_return_sequences": ("n",),
    "random_seed": ("seed",),
    "sampling_seed": ("seed",),
    "eos_token_id": ("stop_token_ids",),
    "content": _PROMPT,
    "contents": ("messages", "prompt"),
    "conversation": ("messages", "prompt"),
    "input": ("messages", "prompt"),
    "inputs": _PROMPT,
    "query": _PROMPT,
    "text": _PROMPT,
    "texts": ("documents", "input"),
    "passages": ("documents",),
    "top_k": ("top_n",),
    "return_text": ("return_documents",),
    "max_tokens_per_document": ("max_tokens_per_doc",),
    "input_ids": ("tokens", "prompt"),
    "ids": ("tokens",),
    "token_ids": ("tokens",),
    "deployment": ("model",),
    "engine": ("model",),
    "model_id": ("model",),
    "model_name": ("model",),
    "streaming": ("stream",),
    "user_id": ("user", "metadata"),
    "user": ("metadata",),
    "instructions": _SYSTEM,
    "preamble": _SYSTEM,
    "system_instruction": _SYSTEM,
    "system_prompt": _SYSTEM,
    "enable_thinking": _TEMPLATE,
    "template_arguments": _TEMPLATE,
    "add_special": ("add_special_tokens",),
    "add_special_tokens": ("add_special",),
    "tools_choice": ("tool_choice",),
}

_ROLE = "it is the first of the messages here, with the role system"
_INSIDE = "what is in it belongs into the body itself"

# Word -> what to do in place of it, where no parameter of the body is called otherwise.
ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("system", "instructions", "preamble", "system_instruction", "system_prompt"), _ROLE),
    **dict.fromkeys(
        ("extra_body", "generationConfig", "generation_config", "options", "parameters", "sampling_params"), _INSIDE
    ),
    "chat_template": "a model has one template, its own",
    "do_sample": "temperature 0 always takes the likeliest token",
    "messages": "a conversation goes to /v1/chat/completions",
    "prompt": "a raw text goes to /v1/completions",
    "timeout": "the header X-Request-Timeout says it, in seconds",
}

_DRAWN = "tokens are drawn by temperature, top_k, top_p and min_p"
_PENALIZED = "repetition_penalty, presence_penalty and frequency_penalty make a text repeat itself less"
_SCORED = "logprobs tells how likely each token was"
_OWN_CODE = "no code of a request runs here; logit_bias, allowed_token_ids and bad_words say which tokens come"

# Word -> the values that ask for nothing, and what there is in place of it. Without it the answer would be another one
# than was asked for, so that it is not only named.
MEANT: Mapping[str, tuple[tuple[object, ...], str]] = {
    "adaptive_target": ((-1,), _DRAWN),
    "dynatemp_range": ((0,), _DRAWN),
    "mirostat": ((0,), _DRAWN),
    "tfs_z": ((1,), _DRAWN),
    "top_a": ((0,), _DRAWN),
    "top_n_sigma": ((-1, 0), _DRAWN),
    "typ_p": ((1,), _DRAWN),
    "typical_p": ((1,), _DRAWN),
    "xtc_probability": ((0,), _DRAWN),
    "dry_multiplier": ((0,), _PENALIZED),
    "max_repetition_pattern_size": ((0,), _PENALIZED),
    "no_repeat_ngram_size": ((0,), _PENALIZED),
    "logprob_token_ids": (([],), _SCORED),
    "n_probs": ((0,), _SCORED),
    "post_sampling_probs": ((False,), _SCORED),
    "logits_processors": (([],), _OWN_CODE),
    "vllm_xargs": (({},), _OWN_CODE),
    "documents": (([],), "what a template reads goes into chat_template_kwargs, a text into a message"),
    "lora": (([],), "a model is served with its own weights; another one is another model"),
    "prompt_embeds": ((), "a prompt is a text or the ids of its tokens"),
    "t_max_predict_ms": ((0, -1), ADVICE["timeout"]),
}
