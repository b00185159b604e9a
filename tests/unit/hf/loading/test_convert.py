import json
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gateway.engine import LoadFailed
from gateway.engine.progress import step_of
from gateway_hf.loading import convert
from tests.support.tiny_gguf import make_tiny_gguf

FLOAT = torch.float32


@pytest.fixture(scope="module")
def source(tiny, tmp_path_factory):
    return make_tiny_gguf(tiny("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def conversions(monkeypatch, tiny):
    """Convert by copying a folder, and list what was converted."""
    done = []

    def copy(source, dtype, folder):
        done.append(source)
        shutil.copytree(tiny("llama"), folder, dirs_exist_ok=True)

    monkeypatch.setattr(convert, "_convert", copy)
    return done


def converted(source, cache, complete=convert.leave, most=1 << 40):
    return convert.converted(source, convert.Conversion(FLOAT), convert.ConversionCache(cache, most), complete)[0]


def test_a_file_is_converted_once(source, tmp_path, conversions):
    first = converted(source, tmp_path)
    assert converted(source, tmp_path) == first
    assert len(conversions) == 1
    assert (first / "model.safetensors").is_file()


def test_converting_is_told_in_steps_and_draws_no_bar(source, tmp_path, caplog, capfd):
    with caplog.at_level(logging.INFO, "gateway_hf"):
        converted(source, tmp_path)
    steps = [step for record in caplog.records if (step := step_of(record)) and step[1] in (0.0, 1.0)]
    names = "reading tiny.gguf", "converting the tokenizer of tiny", "converting the weights of tiny"
    assert steps == [(name, end) for name in names for end in (0.0, 1.0)]
    assert capfd.readouterr().err == ""


def test_what_the_file_lacks_is_completed_before_the_folder_appears(source, tmp_path, conversions):
    folder = converted(source, tmp_path, lambda part: (part / "more").write_text(str(part)))
    assert (folder / "more").read_text() != str(folder)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def flip(folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def blank(folder):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: -len(content) // 2] + bytes(len(content) // 2))


def drop(folder):
    (folder / "tokenizer.json").unlink()


def outdate(folder):
    marker = json.loads((folder / "made.json").read_text())
    marker["origin"]["transformers"] = "0.1"
    (folder / "made.json").write_text(json.dumps(marker))


@pytest.mark.parametrize("damage", [cut, flip, blank, drop, outdate])
def test_a_damaged_or_outdated_conversion_is_made_anew(source, tmp_path, conversions, damage):
    folder = converted(source, tmp_path)
    damage(folder)
    assert converted(source, tmp_path) == folder
    assert len(conversions) == 2
    converted(source, tmp_path)
    assert len(conversions) == 2


def test_a_changed_file_is_converted_again(tiny, tmp_path, conversions):
    source = make_tiny_gguf(tiny("llama"), tmp_path / "own.gguf")
    converted(source, tmp_path)
    make_tiny_gguf(tiny("llama"), source, pre="default")
    converted(source, tmp_path)
    assert len(conversions) == 2


def test_copies_of_one_file_share_one_conversion(source, tmp_path, conversions):
    first = converted(source, tmp_path / "cache")
    copy = tmp_path / "other" / "renamed.gguf"
    copy.parent.mkdir()
    shutil.copy(source, copy)
    assert converted(copy, tmp_path / "cache") == first
    assert len(conversions) == 1


def test_a_conversion_is_not_read_again_to_find_its_copy(source, tmp_path, conversions, monkeypatch):
    converted(source, tmp_path)
    monkeypatch.setattr(convert.hashlib, "file_digest", None)
    converted(source, tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": [1, 1, 1, "../x"]}', b"\xff", b"[" * 100_000])
def test_digests_that_cannot_be_read_are_made_anew(source, tmp_path, conversions, content):
    first = converted(source, tmp_path)
    (tmp_path / ".digests.json").write_bytes(content)
    assert converted(source, tmp_path) == first


def test_another_completion_is_another_conversion(source, tmp_path, conversions):
    assert converted(source, tmp_path) != converted(source, tmp_path, lambda part: None)


def test_what_was_not_used_for_longest_makes_room_and_what_is_used_stays(tiny, tmp_path, conversions):
    files = [make_tiny_gguf(tiny("llama"), tmp_path / f"{n}.gguf", pre=pre) for n, pre in enumerate(("a", "b", "c"))]
    cache = convert.ConversionCache(tmp_path / "cache", 1 << 40)
    old = converted(files[0], tmp_path / "cache")
    kept = convert.converted(files[1], convert.Conversion(FLOAT), cache, convert.leave)
    used, hold = kept.folder, kept.hold
    os.utime(used, (0, 0))
    new = converted(files[2], tmp_path / "cache", most=1)
    assert not old.exists()
    assert used.is_dir()
    assert new.is_dir()
    hold.close()
    converted(files[0], tmp_path / "cache", most=1)
    assert not used.exists()


def test_a_conversion_that_fails_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def fail(source, dtype, folder):
        (folder / "half").write_text("written")
        raise LoadFailed("no")

    monkeypatch.setattr(convert, "_convert", fail)
    with pytest.raises(LoadFailed):
        converted(source, tmp_path)
    assert [entry for entry in tmp_path.iterdir() if entry.suffix not in {".lock", ".json"}] == []


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), RuntimeError("I/O (os error 28)")], ids=str)
def test_a_full_disk_is_one_line(source, tmp_path, monkeypatch, caplog, raised):
    """The library that writes the weights has errors of its own, with the system's number at their end."""

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(convert.PreTrainedModel, "save_pretrained", fail)
    with pytest.raises(LoadFailed, match=r"^the GGUF file 'tiny\.gguf' .*: No space left on device$") as caught:
        converted(source, tmp_path)
    assert str(tmp_path) not in caught.value.message
    assert f"into the folder {tmp_path}: No space left on device" in caplog.text


def test_a_disk_without_room_is_found_before_anything_is_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2, 1, 1))
    monkeypatch.setattr(convert, "_read_tokenizer", None)
    with pytest.raises(LoadFailed, match=r"No space left on device: it takes about 0\.\d MB, and 0\.0 MB are free$"):
        converted(source, tmp_path)


def test_digests_of_another_user_are_not_believed(source, tmp_path, conversions):
    converted(source, tmp_path)
    known = json.loads((tmp_path / ".digests.json").read_text())
    known[str(source)][-1] = "0" * 64
    (tmp_path / ".digests.json").write_text(json.dumps(known))
    (tmp_path / ".digests.json").chmod(0o666)
    converted(source, tmp_path)
    assert len(conversions) == 1


def test_no_file_is_written_through_a_link(source, tmp_path, conversions):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in (".digests.json", f".digests.{os.getpid()}"):
        (cache / name).symlink_to(precious)
    converted(source, cache)
    assert precious.read_text() == "mine"


def test_a_cache_folder_that_cannot_be_made_is_one_line(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadFailed, match="cannot be converted"):
        converted(source, tmp_path / "file" / "cache")


def test_of_two_at_once_one_converts_and_one_waits(source, tmp_path, conversions):
    together = threading.Barrier(2)

    def run(_):
        together.wait(10)
        return converted(source, tmp_path)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, range(2))
    assert first == second
    assert len(conversions) == 1


def test_a_damaged_file_is_refused_before_a_library_sees_it(source, tmp_path, conversions):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(source.read_bytes()[:-1000])
    with pytest.raises(LoadFailed, match=r"'broken\.gguf' is damaged: its tensors need"):
        converted(broken, tmp_path)
    assert conversions == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((b"llama", b"nosuc"), "of the architecture 'nosuc', which is not supported"),
        ((b"gpt2", b"nope"), "transformers does not read it; the log says why"),
    ],
)
def test_a_file_that_transformers_cannot_read_is_one_line(source, tmp_path, caplog, change, why):
    unknown = tmp_path / "unknown.gguf"
    unknown.write_bytes(source.read_bytes().replace(*change))
    with pytest.raises(LoadFailed, match=why) as caught:
        converted(unknown, tmp_path)
    assert "\n" not in caught.value.message
    assert ("nope" in caplog.text) == ("log" in why)
