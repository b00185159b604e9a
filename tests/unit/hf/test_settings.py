import msgspec
import pytest

from gateway_hf.settings import Settings


def read(**table):
    return msgspec.convert(table, Settings)


def test_without_a_word_the_builtin_model_runs_on_the_processor():
    settings = read()
    assert (settings.model, settings.device, settings.dtype) == ("builtin", "cpu", "auto")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_a_device_that_can_be_named_is_taken(device):
    assert read(device=device).device == device


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "gpu"),
        ("device", "cuda:"),
        ("device", "cuda:0\n"),
        ("device", "xcuda"),
        ("dtype", "fp16"),
        ("threads", -1),
        ("places", 0),
        ("step_tokens", 15),
        ("cache_tokens", -1),
        ("quantize", "int2"),
        ("kernels", "on"),
        ("context_window", 0),
        ("model", ""),
        ("served_name", "org/model"),
        ("model_name", "gpt2"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(key, value):
    with pytest.raises(msgspec.ValidationError, match=key):
        read(**{key: value})
