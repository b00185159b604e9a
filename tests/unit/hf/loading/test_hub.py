import logging
import re
import socket
from functools import partial

import huggingface_hub
import pytest

from gateway.engine import LoadFailed
from gateway_hf.loading import hub
from tests.support.tiny_hub import TinyHub
from tests.support.tiny_models import make_tiny

NAME = "someone/tiny-gpt2"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Look into a cache of this test's own, and ask no hub but the one that the test names."""

    def use(url):
        download = partial(huggingface_hub.snapshot_download, endpoint=url, cache_dir=tmp_path / "cache")
        monkeypatch.setattr(hub, "snapshot_download", download)
        monkeypatch.setattr(hub, "HfApi", partial(huggingface_hub.HfApi, endpoint=url))

    return use


@pytest.fixture
def folder(tmp_path):
    return make_tiny("gpt2", tmp_path / "served")


@pytest.fixture
def closed():
    """Say the address of a port where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def test_a_model_is_fetched_once_and_then_found_without_the_hub(folder, cache, closed):
    with TinyHub(NAME, folder) as served:
        cache(served.url)
        fetched = hub.fetch(NAME, None)
    cache(closed)
    assert hub.fetch(NAME, None) == fetched
    assert (fetched / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_fetching_is_a_step_of_loading_and_draws_no_bar(folder, cache, caplog, capfd):
    with TinyHub(NAME, folder) as served, caplog.at_level(logging.INFO, "gateway_hf"):
        cache(served.url)
        hub.fetch(NAME, None)
    first, *_, last = [record.getMessage() for record in caplog.records if record.name.startswith("gateway_hf")]
    assert re.fullmatch(rf"fetching {NAME} from the hub \(once, \d+ MB\)", first)
    assert re.fullmatch(rf"fetching {NAME} from the hub: done after [\d.]+ s", last)
    out, err = capfd.readouterr()  # a log that another test has set up may write its lines
    assert "\r" not in out + err
    assert "%|" not in out + err


def test_nothing_but_safetensors_and_texts_is_fetched(folder, cache):
    for name in ("onnx", "additional_chat_templates"):
        (folder / name).mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("a template")
    for name in ("pytorch_model.bin", "modeling.py", "onnx/model.safetensors", "adapter.safetensors", "README.md"):
        (folder / name).write_bytes(b"not wanted")
    with TinyHub(NAME, folder) as served:
        cache(served.url)
        fetched = hub.fetch(NAME, None)
        asked = " ".join(served.asked)
    assert not any(name in asked for name in ("pytorch_model", "modeling", "onnx", "adapter", "README"))
    assert (fetched / "additional_chat_templates" / "tool_use.jinja").read_text() == "a template"
    assert {file.name for file in fetched.iterdir()} == {
        "additional_chat_templates",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_weights_that_are_pickles_are_never_fetched(folder, cache):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with TinyHub(NAME, folder) as served:
        cache(served.url)
        with pytest.raises(LoadFailed, match="no weights in safetensors"):
            hub.fetch(NAME, None)
        assert len(served.asked) == 1


def test_a_model_that_the_hub_does_not_know_is_one_line(folder, cache):
    with TinyHub(NAME, folder) as served:
        cache(served.url)
        with pytest.raises(LoadFailed, match=r"^the model 'no/such' is not in the local cache and unknown to the hub$"):
            hub.fetch("no/such", None)


def test_without_a_network_a_model_is_one_line(cache, closed):
    cache(closed)
    expected = r"^the model 'gpt2' is not in the local cache and the hub cannot be reached$"
    with pytest.raises(LoadFailed, match=expected):
        hub.fetch("gpt2", None)


@pytest.mark.parametrize("model", ["a/b/c", "bad name", "..", "x" * 200])
def test_what_is_no_id_is_one_line(cache, closed, model):
    cache(closed)
    with pytest.raises(LoadFailed, match="neither a folder, nor a GGUF file, nor a Hub id"):
        hub.fetch(model, None)


def test_a_full_disk_is_not_blamed_on_the_network(folder, cache, monkeypatch):
    def full(model, *, local_files_only=False, **_):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("x")
        raise OSError(28, "No space left on device", "somewhere")

    with TinyHub(NAME, folder) as served:
        cache(served.url)
        monkeypatch.setattr(hub, "snapshot_download", full)
        with pytest.raises(LoadFailed, match="cannot be written to the local cache: No space left on device"):
            hub.fetch(NAME, None)
