import re

import numpy as np
import pytest

from gateway.engine import LoadFailed
from tests.support.tiny_gguf import convert_file, make_tiny_gguf


def refusal(tiny, tmp_path, more):
    file = make_tiny_gguf(tiny("llama"), tmp_path / "made.gguf", more=more)
    with pytest.raises(LoadFailed) as caught:
        convert_file(file, tmp_path / "cache")
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    return caught.value.message


def ones(*shape):
    return np.ones(shape, dtype=np.float32)


def drop(writer, name):
    del writer.tensors[0][name]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (lambda w: w.add_tensor("blk.0.attn_q.bias", ones(64)), r"not read, such as 'blk\.0\.attn_q\.bias'"),
        (lambda w: w.add_tensor("blk.1.ffn_gate_exps.weight", ones(2, 8, 8)), "ffn_gate_exps"),
        (lambda w: drop(w, "blk.1.ffn_up.weight"), r"lacks 1 weights .* such as 'model\.layers\.1\.mlp\.up_proj"),
        (lambda w: w.add_sliding_window(24), r"says attention.sliding_window = 24"),
        (lambda w: w.add_attn_logit_softcapping(50.0), "attn_logit_softcapping = 50"),
        (lambda w: w.add_logit_scale(0.5), r"logit_scale = 0\.5"),
        (lambda w: w.add_uint32("split.count", 3), "one of 3 parts; merge them"),
        (lambda w: w.add_type("adapter"), "holds no model: it is of the type 'adapter'"),
    ],
)  # fmt: skip
def test_a_file_that_is_read_in_part_only_is_refused(tiny, tmp_path, more, why):
    assert re.search(why, refusal(tiny, tmp_path, more))


def test_what_changes_nothing_is_no_reason_to_refuse(tiny, tmp_path):
    def more(writer):
        writer.add_key_length(16)
        writer.add_value_length(16)
        writer.add_rope_dimension_count(16)
        writer.add_sliding_window(0)
        writer.add_logit_scale(1.0)
        writer.add_type("model")
        writer.add_tensor("blk.2.attn_norm.weight", ones(64))  # a layer that guesses ahead

    file = make_tiny_gguf(tiny("llama"), tmp_path / "made.gguf", more=more)
    assert (convert_file(file, tmp_path / "cache") / "model.safetensors").is_file()
