"""A folder of PEFT's is read as what it says, or refused in one line that names the file and what is wrong in it."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from gateway.engine import LoadFailed
from gateway_hf.loading.adapters import find_adapters, read_adapters
from gateway_hf.loading.sources import Source
from gateway_hf.settings import Settings
from tests.support.tiny_adapters import ALL, change_config, change_tensors, make_adapter, merge
from tests.support.tiny_models import make_tokenizer

FIRST = "model.layers.0.self_attn.q_proj"
DOWN = f"base_model.model.{FIRST}.lora_A.weight"


@pytest.fixture(scope="module")
def base(tiny):
    return tiny("llama")


@pytest.fixture(scope="module")
def model(base):
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    return make_adapter(base, tmp_path_factory.mktemp("made") / "sql")


@pytest.fixture
def adapter(made, tmp_path):
    return shutil.copytree(made, tmp_path / "sql")


@pytest.fixture
def read(model):
    def read(folder, *aliases, name="sql"):
        source = Source(folder.parent, "base", aliases)
        found = find_adapters(Settings(adapters={name: str(folder)}), source)
        (adapter,) = read_adapters(found, model, make_tokenizer(begins=False, chats=True), "base")
        return adapter

    return read


def refusal(read, folder, *aliases, **given):
    with pytest.raises(LoadFailed) as caught:
        read(folder, *aliases, **given)
    assert "\n" not in caught.value.message
    assert str(folder.parent) not in caught.value.message
    assert "sql" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"r": 3, "lora_alpha": 5},
        {"alpha_pattern": {"layers.1.mlp.up_proj": 40}},
        {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"q_proj": 0.5}},
        {"fan_in_fan_out": True, "bias": "none", "init_lora_weights": "gaussian"},
        {"task_type": None, "an_option_that_is_not_known_here": None},
    ],
)
@torch.no_grad()
def test_what_is_read_is_what_is_added_to_the_weights(base, model, read, tmp_path, config):
    folder = make_adapter(base, tmp_path / "own", **config)
    merged, found = merge(base, folder), read(folder)
    assert len(found.changes) == 2 * len(ALL)
    for layer, low in found.changes.items():
        expected = merged.get_submodule(layer).weight - model.get_submodule(layer).weight
        torch.testing.assert_close(low.up @ low.down, expected, rtol=1e-4, atol=1e-5)


def test_halves_and_other_spellings_of_a_name_are_read(read, adapter):
    before = read(adapter)

    def respell(tensors):
        for name in list(tensors):
            other = name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
            tensors[other] = tensors.pop(name).half()

    change_tensors(adapter, respell)
    after = read(adapter)
    assert before.changes.keys() == after.changes.keys()
    assert before.digest != after.digest
    torch.testing.assert_close(before.changes[FIRST], after.changes[FIRST], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"peft_type": "IA3"}, "is of the type 'IA3'"),
        ({"task_type": "SEQ_CLS"}, "task_type = 'SEQ_CLS'"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"use_dora": True}, "use_dora = True"),
        ({"use_qalora": True}, "use_qalora = True"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save = ['lm_head']"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices = [1]"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"an_option_of_next_year": "on"}, "an_option_of_next_year = 'on'"),
        ({"r": 0}, "rank [0]"),
        ({"r": 513}, "rank [513]"),
        ({"r": "4"}, "rank ['4']"),
        ({"rank_pattern": {"q_proj": 2.5}}, "rank [4, 2.5]"),
        ({"rank_pattern": ["q_proj"]}, "no table as rank_pattern"),
        ({"rank_pattern": {"(a+)+b": 4}}, "the pattern '(a+)+b' in rank_pattern"),
        ({"alpha_pattern": {"q_proj": "much"}}, "no number as lora_alpha"),
        ({"lora_alpha": None}, "no number as lora_alpha"),
        ({"target_modules": ["q_proj", "elsewhere"]}, "no tensors of 'elsewhere' in adapter_model.safetensors"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_its_name(read, adapter, entries, named):
    change_config(adapter, **entries)
    assert named in refusal(read, adapter)
    assert "adapter_config.json" in refusal(read, adapter)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, tensor):
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop(DOWN), f"lacks the tensor lora_A beside 'base_model.model.{FIRST}.lora_B.weight'"),
        (put(DOWN, torch.zeros(4, 32)), f"'{DOWN}' in adapter_model.safetensors of the shape [4, 32]"),
        (put(DOWN, torch.zeros(8, 64)), f"'{DOWN}' in adapter_model.safetensors of the shape [8, 64]"),
        (put(DOWN, torch.full((4, 64), torch.nan)), f"NaN or infinity in the tensor '{DOWN}'"),
        (put(DOWN, torch.zeros(4, 64, dtype=torch.int32)), f"'{DOWN}' in adapter_model.safetensors in torch.int32"),
        (put("base_model.model.lm_head.weight", torch.zeros(2)), "the tensor 'base_model.model.lm_head.weight'"),
        (put(DOWN.replace("lora_A.weight", "lora_magnitude_vector"), torch.zeros(2)), "lora_magnitude_vector"),
        (lambda tensors: tensors.clear(), "no tensors in adapter_model.safetensors"),
    ],
)
def test_wrong_tensors_are_refused_by_their_names(read, adapter, change, named):
    change_tensors(adapter, change)
    assert named in refusal(read, adapter)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        ("model.layers.7.self_attn.q_proj", "it is no linear layer of 'base'; it was made for"),
        ("model.layers.0.input_layernorm", "it is no linear layer of 'base'"),
        ("lm_head", "it is the last layer, which is not supported"),
    ],
)
def test_a_layer_that_cannot_be_changed_is_refused_by_its_name(read, adapter, layer, named):
    def more(tensors):
        tensors |= {f"base_model.model.{layer}.lora_A.weight": torch.zeros(4, 64)}
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.zeros(384, 4)

    change_tensors(adapter, more)
    assert f"changes '{layer}' ('base_model.model.{layer}.lora_A.weight' in adapter_model.safetensors)" in refusal(
        read, adapter
    )
    assert named in refusal(read, adapter)


def test_an_adapter_of_a_larger_model_is_refused(read, tiny, tmp_path):
    other = make_adapter(tiny("gpt2"), tmp_path / "sql", targets=("c_attn",), base_model_name_or_path="org/other")
    assert "'transformer.h.0.attn.c_attn'" in refusal(read, other)
    assert "it was made for 'org/other'" in refusal(read, other)


def test_tensors_that_are_missing_in_one_layer_are_named_unless_only_some_are_wanted(read, adapter):
    def less(tensors):
        for name in [name for name in tensors if "layers.1.mlp.up_proj" in name]:
            del tensors[name]

    change_tensors(adapter, less)
    assert "lacks the tensors of 'model.layers.1.mlp.up_proj'" in refusal(read, adapter)
    change_config(adapter, layers_to_transform=[0, 1])
    assert len(read(adapter).changes) == 2 * len(ALL) - 1


@pytest.mark.parametrize(
    ("named", "aliases", "fits"),
    [
        ("org/Base-Chat", ("org/base-chat",), True),
        ("unsloth/base-chat-unsloth-bnb-4bit", ("org/base-chat",), True),
        ("org/base", ("org/base-chat",), False),
        ("org/base", (), True),  # a folder does not say whose model it has
        ("/data/base", ("org/base-chat",), True),
        ("", ("org/base-chat",), True),
    ],
)
def test_a_model_of_another_name_is_refused_where_both_have_one(read, adapter, named, aliases, fits):
    change_config(adapter, base_model_name_or_path=named)
    if fits:
        read(adapter, *aliases)
    else:
        assert "is made for 'org/base' (base_model_name_or_path in adapter_config.json)" in refusal(
            read, adapter, *aliases
        )


def test_files_that_are_missing_or_damaged_are_named(read, adapter, tmp_path):
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "damaged file 'adapter_model.safetensors'" in refusal(read, adapter)
    weights.rename(adapter / "adapter_model.bin")
    assert "as a pickle only, which can run code: convert it to 'adapter_model.safetensors'" in refusal(read, adapter)
    (adapter / "adapter_model.bin").unlink()
    assert "no file 'adapter_model.safetensors'" in refusal(read, adapter)
    config.write_text("[]")
    assert "adapter_config.json" in refusal(read, adapter)
    config.unlink()
    assert "no file 'adapter_config.json' in the folder 'sql'" in refusal(read, adapter)
    assert "no folder 'nowhere'" in refusal(read, tmp_path / "nowhere")


def test_a_sum_that_it_came_with_is_compared(read, adapter):
    (adapter / "SHA256SUMS").write_text(f"{'0' * 64}  adapter_model.safetensors\n")
    assert "is damaged: its SHA-256 is not the one in its SHA256SUMS" in refusal(read, adapter)


@pytest.mark.parametrize("name", ["base", "org/base"])
def test_the_name_of_the_model_is_taken(read, adapter, name):
    with pytest.raises(LoadFailed, match=f"the adapter '{name}' has the name of its model"):
        find_adapters(Settings(adapters={name: str(adapter)}), Source(adapter, "base", ("org/base",)))


def test_a_template_of_its_own_is_not_used_and_the_log_says_so(read, adapter, caplog):
    tokenizer = make_tokenizer(begins=False, chats=True)
    (adapter / "chat_template.jinja").write_text(tokenizer.chat_template)
    read(adapter)
    assert not caplog.records
    (adapter / "chat_template.jinja").write_text("another")
    read(adapter)
    assert "the adapter 'sql' has a chat template of its own, which is not used" in caplog.text


def test_the_digest_is_that_of_both_files(read, adapter):
    first = read(adapter).digest
    assert read(adapter).digest == first
    change_config(adapter, lora_alpha=17)
    assert read(adapter).digest != first
    assert json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"] == 17
