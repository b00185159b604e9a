"""Models of uncommon kinds say what `generate()` says, or are refused; `just architectures` tries all there are."""

import pytest

from tests.architectures.trial import try_kind

_ALONE = "one answer at a time, and "
_CHUNKS, _WHOLE, _ANEW = (
    _ALONE + how
    for how in ("prompts are read in chunks", "each prompt is read in one pass", "all is read again for each token")
)
# Within the window, beyond it and a step, and in many steps.
_LENGTHS = (6, 70, 200)
# Between the second prompt and its answer's end, and far below the third one.
_ORIGINAL = 80
_LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": _ORIGINAL}
_LONGROPE |= {"short_factor": [1.0] * 8, "long_factor": [1.0 + at for at in range(8)], "partial_rotary_factor": 1.0}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("roberta-prelayernorm", "batched"),  # its own positions are not those that generate() gives it
        ("bamba", _CHUNKS),  # its first layer has no attention
        ("mamba2", _CHUNKS),  # has no attention at all
        ("jamba", _WHOLE),  # forgets its state where a prompt is read in chunks
        ("moshi", _WHOLE),  # keeps to its window in its cache only
        ("openai-gpt", _ANEW),  # keeps no cache
    ],
)
def test_a_model_says_what_generate_says(tmp_path, kind, how):
    verdict = try_kind(kind, tmp_path, _LENGTHS)
    assert (verdict.says, verdict.how.partition(":")[0]) == ("the same", how)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("phi3", {"rope_parameters": _LONGROPE, "original_max_position_embeddings": _ORIGINAL}),
        ("llama", {"rope_parameters": _LONGROPE}),
    ],
)
def test_short_and_long_factors_are_never_mixed(tmp_path, kind, changes):
    verdict = try_kind(kind, tmp_path, _LENGTHS, **changes)
    assert verdict.says == "the same"
    assert verdict.how.startswith(
        f"{_WHOLE}: positions of the kind longrope (answers run together with a context of 80"
    )


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_a_window_of_one_token_is_what_generate_makes_of_it(tmp_path, kind):
    verdict = try_kind(kind, tmp_path, _LENGTHS, sliding_window=1)
    assert (verdict.says, verdict.how.partition(":")[0]) == ("the same", _WHOLE)
