"""Whatever becomes of the service, the disk or the key, a batch ends with the results of its lines, each once."""

import os
import signal
import time

import httpx
import openai
import pytest

from gateway.auth import KeyFile, Scope
from tests.support.batches import Lines, ended, lines_of
from tests.support.mounts import small_disk
from tests.support.observe import eventually, is_error, play
from tests.support.processes import worker
from tests.support.service import Service

PATIENCE = 60.0
CHAT = "/v1/chat/completions"


def start(path, **more):
    actor = {"LLM_GATEWAY__ENGINES__ACTOR__PLUGIN": "scripted", "LLM_GATEWAY__ENGINES__ACTOR__SETTINGS__PLACES": "4"}
    fast = {"LLM_GATEWAY__BATCHES__QUIET_SECONDS": "0", "LLM_GATEWAY__STORE__FILE": str(path), "LOG_LEVEL": "DEBUG"}
    return Service(**actor | fast | more, leads=True)


def sdk(service, key="none"):
    return openai.OpenAI(base_url=service.url + "/v1", api_key=key, max_retries=0)


def say(text, model="echo", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}]} | fields


def ticks(count, delay=0.02):
    return say(play(texts=["tick "] * count, delay=delay), model="scripted")


def upload(client, lines):
    return client.files.create(file=("lines.jsonl", lines.content), purpose="batch").id


def batch(client, lines, **fields):
    asked = {"endpoint": lines.url, "completion_window": "24h"} | fields
    return client.batches.create(input_file_id=upload(client, lines), **asked)


def answered(client, made):
    found = client.batches.retrieve(made.id).request_counts
    return found.completed + found.failed


def kill(service):
    """End all of the service at once, as a machine does that loses its power."""
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait(PATIENCE)


@pytest.mark.slow
def test_a_batch_that_is_killed_three_times_has_each_result_once(tmp_path):
    """Lines that take so long that every death comes in the middle, on a machine however busy."""
    texts = [f"text {number}" for number in range(500)]
    lines = Lines(CHAT).add_all(say(play(texts=[text], delay=0.2), model="scripted") for text in texts)
    path, made, seen = tmp_path / "store.db", None, 0
    for _ in range(3):
        with start(path) as service, sdk(service) as client:
            made = made or batch(client, lines)
            eventually(lambda: answered(client, made) > seen + 20, PATIENCE)  # noqa: B023 - it is waited for
            seen = answered(client, made)
            kill(service)
        assert seen < 500
    with start(path) as service, sdk(service) as client:
        assert answered(client, made) >= seen
        over = ended(client, made, PATIENCE)
        assert (over.status, over.request_counts.completed, over.request_counts.failed) == ("completed", 500, 0)
        found = lines_of(client, over.output_file_id)
    assert [each["custom_id"] for each in found] == lines.ids
    assert [each["response"]["body"]["choices"][0]["message"]["content"] for each in found] == texts
    assert len({each["response"]["request_id"] for each in found}) == 500


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    with start(tmp_path_factory.mktemp("kept") / "store.db") as service:
        yield service


def test_a_batch_outlives_its_worker_and_goes_on(kept):
    with sdk(kept) as client:
        made = batch(client, Lines(CHAT).add_all([*[say("quick")] * 3, ticks(60)]))
        eventually(lambda: answered(client, made) == 3, PATIENCE)
        os.kill(killed := worker(kept.process.pid), signal.SIGKILL)
        eventually(lambda: worker(kept.process.pid) not in (0, killed), PATIENCE)
        kept.wait_for("/readyz")
        over = ended(client, made, PATIENCE)
        assert (over.status, over.request_counts.completed) == ("completed", 4)


@pytest.mark.slow
def test_a_model_that_is_busy_for_long_holds_up_no_batch_of_another(tmp_path):
    """More batches of the busy one than run at once, and each with more lines than are answered at once."""
    with start(tmp_path / "store.db", LLM_GATEWAY__BATCHES__AT_ONCE="2") as service, sdk(service) as client:
        busy = [batch(client, Lines(CHAT).add_all([ticks(60, 1.0)] * 3)) for _ in range(9)]
        over = ended(client, batch(client, Lines(CHAT).add_all([say("quick")])), PATIENCE)
        assert (over.status, over.request_counts.completed) == ("completed", 1)
        found = [client.batches.retrieve(made.id) for made in busy]
        assert sum(made.status == "in_progress" for made in found) >= 8
        assert all(made.request_counts.completed == 0 for made in found)


@pytest.mark.slow
def test_the_drain_leaves_lines_to_the_next_service(tmp_path):
    path = tmp_path / "store.db"
    with start(path) as service, sdk(service) as client:
        made = batch(client, Lines(CHAT).add_all([say("quick"), ticks(2_000, 0.05)]))
        eventually(lambda: answered(client, made) == 1, PATIENCE)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 25  # a drain may take 30 s, and the line would have taken 100
    with start(path) as service, sdk(service) as client:
        assert answered(client, made) == 1
        assert client.batches.cancel(made.id).status == "cancelling"
        over = ended(client, made, PATIENCE)
        assert (over.status, over.request_counts.completed) == ("cancelled", 1)


@pytest.mark.slow
def test_an_engine_that_dies_of_a_line_fails_that_line_only(tmp_path):
    isolated = {"LLM_GATEWAY__ENGINES__ACTOR__ISOLATED": "true"}
    deadly = say(play(fault="exit", after=1, texts=["a"]), model="scripted")
    lines = Lines(CHAT).add_all([ticks(5), deadly, ticks(5)])
    with start(tmp_path / "store.db", **isolated) as service, sdk(service) as client:
        over = ended(client, batch(client, lines), 2 * PATIENCE)
        assert (over.status, over.request_counts.completed, over.request_counts.failed) == ("completed", 2, 1)
        (failed,) = lines_of(client, over.error_file_id)
    assert failed["custom_id"] == lines.ids[1]
    assert failed["response"]["body"]["error"]["code"] in ("request_quarantined", "engine_restarted")


def test_no_key_reaches_what_is_another_ones(tmp_path):
    keys = KeyFile(tmp_path / "keys.db")
    alice, bob, admin = (
        keys.create(name, scopes=frozenset({scope}))[1]
        for name, scope in (("alice", Scope.INFER), ("bob", Scope.INFER), ("admin", Scope.ADMIN))
    )
    with start(tmp_path / "store.db", LLM_GATEWAY__AUTH__FILE=str(keys.path)) as service, sdk(service, alice) as client:
        over = ended(client, batch(client, Lines(CHAT).add(say("one"))), PATIENCE)
        for key in (bob, admin):
            told = {"headers": {"authorization": f"Bearer {key}"}}
            for name in (over.input_file_id, over.output_file_id, "file-none"):
                path = f"/v1/files/{name}"
                answers = [
                    service.client.get(path, **told),
                    service.client.get(f"/v1/files/{name}/content", **told),
                    service.client.delete(path, **told),
                ]
                assert all(is_error(answer, 404, "not_found", "file_id") for answer in answers)
                body = {"input_file_id": name, "endpoint": CHAT, "completion_window": "1h"}
                made = service.client.post("/v1/batches", json=body, **told)
                assert is_error(made, 404, "not_found", "input_file_id")
                assert len({answer.text.replace(name, "") for answer in answers}) == 1
            for name in (over.id, "batch_none"):
                answers = [
                    service.client.get(f"/v1/batches/{name}", **told),
                    service.client.post(f"/v1/batches/{name}/cancel", **told),
                ]
                assert all(is_error(answer, 404, "not_found", "batch_id") for answer in answers)
            for path in ("/v1/files", "/v1/batches"):
                assert service.client.get(path, **told).json()["data"] == []
                answer = service.client.get(f"{path}?after={over.id}", **told)
                assert is_error(answer, 404, "not_found", "after")
        assert client.files.retrieve(over.output_file_id).id == over.output_file_id


@pytest.mark.slow
def test_a_key_that_is_revoked_ends_its_batch_with_what_there_is(tmp_path):
    keys = KeyFile(tmp_path / "keys.db")
    alice, secret = keys.create("alice")
    with (
        start(tmp_path / "store.db", LLM_GATEWAY__AUTH__FILE=str(keys.path)) as service,
        sdk(service, secret) as client,
    ):
        made = batch(client, Lines(CHAT).add_all([say("one"), *[ticks(40)] * 40]))
        eventually(lambda: answered(client, made) >= 1, PATIENCE)
        keys.revoke("alice")
        eventually(lambda: '"batch_over"' in service.output, PATIENCE)
        assert f"{made.id} is failed" in service.output
        assert alice.id


@pytest.mark.slow
def test_the_limits_of_a_key_hold_for_its_batches_apart_from_its_requests(tmp_path):
    from gateway.limits import Quota  # noqa: PLC0415 - for this test

    keys = KeyFile(tmp_path / "keys.db")
    _, secret = keys.create("alice", quota=Quota(requests_per_minute=6, concurrent=1))
    with (
        start(tmp_path / "store.db", LLM_GATEWAY__AUTH__FILE=str(keys.path)) as service,
        sdk(service, secret) as client,
    ):
        made = batch(client, Lines(CHAT).add_all([say("one")] * 12))
        eventually(lambda: answered(client, made) >= 6, PATIENCE)
        for _ in range(3):
            assert client.chat.completions.create(**say("two")).choices[0].message.content == "two"
        assert client.batches.retrieve(made.id).request_counts.failed == 0


@pytest.mark.slow
def test_quotas_bound_files_and_batches_of_each_key(tmp_path):
    keys = KeyFile(tmp_path / "keys.db")
    alice, bob = (keys.create(name)[1] for name in ("alice", "bob"))
    bounds = {
        "LLM_GATEWAY__AUTH__FILE": str(keys.path),
        "LLM_GATEWAY__FILES__PER_KEY": "3",
        "LLM_GATEWAY__FILES__BYTES_PER_KEY": "3000",
        "LLM_GATEWAY__FILES__MAX_FILE_BYTES": "2000",
        "LLM_GATEWAY__BATCHES__PER_KEY": "1",
        "LLM_GATEWAY__BATCHES__MAX_LINES": "5",
    }
    with start(tmp_path / "store.db", **bounds) as service, sdk(service, alice) as client, sdk(service, bob) as other:
        with pytest.raises(openai.APIStatusError, match=r"files\.max_file_bytes") as large:
            client.files.create(file=("a", b"a" * 2_001), purpose="batch")
        assert (large.value.status_code, large.value.code) == (413, "request_too_large")
        with pytest.raises(openai.APIStatusError) as larger:
            client.files.create(file=("a", b"a" * 900_000), purpose="batch")
        assert larger.value.status_code == 413
        kept = [client.files.create(file=("a", b"a" * 1_400), purpose="batch").id for _ in range(2)]
        with pytest.raises(openai.PermissionDeniedError, match=r"files\.bytes_per_key is 3000"):
            client.files.create(file=("a", b"a" * 400), purpose="batch")
        client.files.create(file=("a", b"a"), purpose="batch")
        with pytest.raises(openai.PermissionDeniedError, match=r"files\.per_key is 3") as many:
            client.files.create(file=("a", b"a"), purpose="batch")
        assert many.value.code == "quota_exceeded"
        client.files.delete(kept[0])
        slow = batch(client, Lines(CHAT).add(ticks(20, 5.0)))
        with pytest.raises(openai.RateLimitError, match=r"batches\.per_key is 1") as second:
            client.batches.create(input_file_id=slow.input_file_id, endpoint=CHAT, completion_window="1h")
        assert second.value.code == "too_many_batches"
        long = ended(other, batch(other, Lines(CHAT).add_all([say("one")] * 6)), PATIENCE)
        assert [(fault.code, fault.line) for fault in long.errors.data] == [("too_many_lines", None)]
        client.batches.cancel(slow.id)
        folder = tmp_path / "store.db.files"
        eventually(lambda: not [path for path in folder.iterdir() if path.suffix == ".part"], PATIENCE)


@pytest.mark.slow
def test_results_that_have_no_room_end_the_batch_with_what_there_is(tmp_path):
    with start(tmp_path / "store.db", LLM_GATEWAY__FILES__BYTES_PER_KEY="6000") as service, sdk(service) as client:
        over = ended(client, batch(client, Lines(CHAT).add_all([say("word " * 100)] * 5)), PATIENCE)
        assert over.status == "failed"
        assert [fault.code for fault in over.errors.data] == ["quota_exceeded"]
        assert 0 < len(lines_of(client, over.output_file_id)) < 5


def fill(path):
    with path.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            return


@pytest.mark.slow
def test_a_full_disk_refuses_uploads_and_makes_batches_wait(tmp_path):
    with small_disk(tmp_path / "disk", "2m") as disk, start(disk / "store.db") as service, sdk(service) as client:
        lines = Lines(CHAT).add_all([say("word " * 400), *[ticks(40)] * 8])
        made = batch(client, lines)
        eventually(lambda: answered(client, made) >= 1, PATIENCE)
        fill(disk / "filler")
        refused = service.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"{}\n" * 100_000)})
        assert is_error(refused, 503, "store_unavailable")
        eventually(lambda: "store_failed" in service.output, PATIENCE)
        assert client.batches.retrieve(made.id).status in ("in_progress", "finalizing")
        assert service.generate(prompt="a").status_code == 200
        (disk / "filler").unlink()
        over = ended(client, made, 2 * PATIENCE)
        assert (over.status, over.request_counts.completed) == ("completed", 9)
        assert [each["custom_id"] for each in lines_of(client, over.output_file_id)] == lines.ids


@pytest.mark.slow
def test_a_folder_of_files_is_used_by_one_service(tmp_path):
    """Each would remove what it does not know of the other's."""
    shared = {"LLM_GATEWAY__FILES__FOLDER": str(tmp_path / "files")}
    with start(tmp_path / "one.db", **shared) as first, start(tmp_path / "two.db", **shared) as second:
        with sdk(first) as client:
            over = ended(client, batch(client, Lines(CHAT).add(say("one"))), PATIENCE)
        refused = second.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"{}")})
        assert is_error(refused, 503, "store_unavailable")
        eventually(lambda: "another service uses it" in second.output, PATIENCE)
        assert first.client.get(f"/v1/files/{over.output_file_id}/content").status_code == 200


@pytest.mark.slow
def test_without_a_store_file_batches_run_and_leave_nothing_behind(tmp_path):
    """Files have no name: where the worker dies, they and the batches are gone with it."""
    with Service(TMPDIR=str(tmp_path), LLM_GATEWAY__BATCHES__QUIET_SECONDS="0") as service, sdk(service) as client:
        over = ended(client, batch(client, Lines(CHAT).add_all([say("one")] * 3)), PATIENCE)
        assert [each["response"]["status_code"] for each in lines_of(client, over.output_file_id)] == [200] * 3
        os.kill(killed := worker(service.process.pid), signal.SIGKILL)
        eventually(lambda: worker(service.process.pid) not in (0, killed), PATIENCE)
        service.wait_for("/readyz")
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve(over.id)
        with pytest.raises(openai.PermissionDeniedError, match="67108864"):
            client.files.create(file=("a", b"a" * (65 * 1024 * 1024)), purpose="batch")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_an_upload_that_breaks_off_or_pauses_leaves_nothing(tmp_path):
    with start(tmp_path / "store.db", LLM_GATEWAY__SERVER__BODY_SECONDS="1") as service:
        head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

        def pause():
            yield head + b"a" * 300_000
            time.sleep(3)
            yield b"a"

        headers = {"content-type": "multipart/form-data; boundary=edge"}
        try:
            answer = service.client.post("/v1/files", content=pause(), headers=headers)
        except httpx.TransportError:
            pass
        else:
            assert is_error(answer, 408, "body_timeout")
        cut = service.client.post("/v1/files", content=head + b"a" * 300_000, headers=headers)
        assert is_error(cut, 400, "invalid_value")
        plain = service.client.post("/v1/files", json={"purpose": "batch"})
        assert is_error(plain, 415, "unsupported_media_type")
        bare = service.client.post("/v1/files", content=b"x", headers={"content-type": "multipart/form-data"})
        assert is_error(bare, 415, "unsupported_media_type")
        assert "without a boundary" in bare.json()["error"]["message"]
        folder = tmp_path / "store.db.files"
        eventually(lambda: [path.name for path in folder.iterdir()] == ["lock"], PATIENCE)
        assert service.client.get("/v1/files").json()["data"] == []


@pytest.mark.slow
def test_a_file_of_another_mode_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "store.db.files").mkdir(mode=0o755)
    with start(tmp_path / "store.db") as service:
        answer = service.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"{}")})
        assert is_error(answer, 503, "store_unavailable")
        eventually(lambda: "no folder of this user alone" in service.output, PATIENCE)
