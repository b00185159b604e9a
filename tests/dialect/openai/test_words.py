"""Every word of OpenAI's, vLLM's and llama.cpp's requests is known, refused, or said to have no effect."""

import msgspec
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params

from gateway.api.http.body import RequestBody
from gateway.api.http.problems import Problem
from gateway.api.http.synonyms import ADVICE, MEANT, SHAPES, SYNONYMS
from gateway.api.openai.schema import chat_decoder, completion_decoder

BODIES = {"chat": (chat_decoder, chat_params), "completion": (completion_decoder, text_params)}
MESSAGES = [{"role": "user", "content": "hi"}]
LEAST = {"chat": {"messages": MESSAGES}, "completion": {"prompt": "hi"}}
# What vLLM's ChatCompletionRequest and CompletionRequest have beside OpenAI's parameters.
VLLM = (
    *("use_beam_search", "top_k", "min_p", "repetition_penalty", "length_penalty", "stop_token_ids", "ignore_eos"),
    *("include_stop_str_in_output", "min_tokens", "skip_special_tokens", "truncate_prompt_tokens", "truncation_side"),
    *("prompt_logprobs", "allowed_token_ids", "bad_words", "add_special_tokens", "documents", "chat_template"),
    *("structured_outputs", "logits_processors", "return_tokens_as_token_ids", "return_token_ids", "cache_salt"),
    *("vllm_xargs", "max_repetition_pattern_size", "logprob_token_ids", "prompt_embeds", "echo", "priority"),
)
# What llama.cpp's server has, where it changes the answer.
LLAMA = (
    *("n_predict", "n_cmpl", "n_probs", "t_max_predict_ms", "dynatemp_range", "top_n_sigma", "xtc_probability"),
    *("typical_p", "typ_p", "repeat_penalty", "dry_multiplier", "mirostat", "adaptive_target", "grammar", "lora"),
    *("json_schema", "post_sampling_probs", "timings_per_token", "return_tokens"),
)
# Those that change nothing of what is said: how it is computed, logged or carried.
NAMED = (
    *("request_id", "mm_processor_kwargs", "kv_transfer_params", "spaces_between_special_tokens", "id_slot"),
    *("cache_prompt", "return_progress", "response_fields", "n_keep", "n_discard", "min_keep", "cache_reuse"),
)


def unknown(decoder, body):
    sent = RequestBody(msgspec.json.encode(body))
    return sent.unknown(sent.decode(decoder))


@pytest.mark.parametrize("kind", BODIES)
def test_every_parameter_of_openais_is_a_field(kind):
    decoder, params = BODIES[kind]
    asked = {*params.CompletionCreateParamsBase.__annotations__, "stream"}
    assert asked <= set(decoder.type.__struct_encode_fields__)


@pytest.mark.parametrize("word", VLLM + LLAMA)
@pytest.mark.parametrize("kind", BODIES)
def test_every_word_that_changes_an_answer_is_a_field_or_refused_with_what_there_is_instead(kind, word):
    decoder, _ = BODIES[kind]
    if word in decoder.type.__struct_encode_fields__:
        return
    with pytest.raises(Problem) as refused:
        unknown(decoder, LEAST[kind] | {word: 7})
    assert refused.value.param == word
    assert "; " in refused.value.message
    assert word in {*SYNONYMS, *ADVICE, *MEANT, *SHAPES, "priority", "echo"}


@pytest.mark.parametrize("word", NAMED)
@pytest.mark.parametrize("kind", BODIES)
def test_a_word_that_changes_nothing_is_named_as_such(kind, word):
    decoder, _ = BODIES[kind]
    assert unknown(decoder, LEAST[kind] | {word: 1}) == [word]
