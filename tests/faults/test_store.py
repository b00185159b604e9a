"""Whatever becomes of the store, answers are given; each key sees its own only; a wrong file is said at the start."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

import pytest

from gateway.auth import KeyFile, Scope
from tests.support.mounts import small_disk
from tests.support.observe import eventually, is_error, play
from tests.support.processes import worker
from tests.support.service import Service, total

PATIENCE = 30.0
SLOW = {"texts": ["tick "] * 400, "delay": 0.05}


def start(path, **more):
    actor = {"LLM_GATEWAY__ENGINES__ACTOR__PLUGIN": "scripted"}
    return Service(LLM_GATEWAY__STORE__FILE=str(path), **actor, **more)


def create(service, key=None, **body):
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return service.client.post("/v1/responses", json={"model": "echo", "input": "one"} | body, headers=headers)


def in_background(service, **script):
    answer = create(service, model="scripted", input=play(**(script or SLOW)), background=True)
    assert answer.status_code == 200, answer.text
    return f"/v1/responses/{answer.json()['id']}"


def status(service, path):
    return service.client.get(path).json()["status"]


def begun(service, path):
    eventually(lambda: status(service, path) == "in_progress", PATIENCE)


def test_no_key_reaches_what_another_has_stored(tmp_path):
    keys = KeyFile(tmp_path / "keys.db")
    alice, bob, admin = (
        keys.create(name, scopes=frozenset({scope}))[1]
        for name, scope in (("alice", Scope.INFER), ("bob", Scope.INFER), ("admin", Scope.ADMIN))
    )
    params = ["response_id"] * 5 + ["previous_response_id"] * 2
    with start(tmp_path / "store.db", LLM_GATEWAY__AUTH__FILE=str(keys.path)) as service:
        made = create(service, alice).json()["id"]
        slow = create(service, alice, model="scripted", input=play(**SLOW), background=True, stream=False).json()["id"]
        for key in (bob, admin):
            told = {"headers": {"authorization": f"Bearer {key}"}}
            for name in (made, slow, "resp_none"):
                path = f"/v1/responses/{name}"
                answers = [
                    service.client.get(path, **told),
                    service.client.get(f"{path}?stream=true", **told),
                    service.client.get(f"{path}/input_items", **told),
                    service.client.post(f"{path}/cancel", **told),
                    service.client.delete(path, **told),
                    create(service, key, previous_response_id=name),
                    service.client.post(
                        "/v1/responses/input_tokens", json={"input": "a", "previous_response_id": name}, **told
                    ),
                ]
                assert all(
                    is_error(answer, 404, "not_found", param) for answer, param in zip(answers, params, strict=True)
                )
                # Nor does an answer tell a response of another key from one that never was.
                assert len({answer.text.replace(name, "") for answer in answers[:5]}) == 1
        item = service.client.get(f"/v1/responses/{made}", headers={"authorization": f"Bearer {alice}"})
        reference = {"type": "item_reference", "id": item.json()["output"][0]["id"]}
        assert is_error(create(service, bob, input=[reference]), 404, "not_found", "input[0].id")
        assert create(service, alice, input=[{"role": "user", "content": "a"}, reference]).status_code == 200
        own = {"headers": {"authorization": f"Bearer {alice}"}}
        assert service.client.get(f"/v1/responses/{made}", **own).status_code == 200
        assert service.client.post(f"/v1/responses/{slow}/cancel", **own).json()["status"] == "cancelled"


def test_a_file_outlives_the_service_and_the_drain_ends_what_takes_too_long(tmp_path):
    path = tmp_path / "store.db"
    with start(path, LLM_GATEWAY__SERVER__DRAIN_SECONDS="2") as service:
        made = create(service).json()
        quick = in_background(service, texts=["tick "] * 10, delay=0.05)
        slow = in_background(service)
        begun(service, slow)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("store.db*")} == {0o600}
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
    with start(path) as service:
        assert service.client.get(f"/v1/responses/{made['id']}").json() == made
        assert create(service, input="two", previous_response_id=made["id"]).json()["usage"]["input_tokens"] == 3
        assert service.client.get(quick).json()["status"] == "completed"
        ended = service.client.get(slow).json()
        assert (ended["status"], ended["error"]["code"]) == ("failed", "server_error")
        assert ended["output"][0]["content"][0]["text"].startswith("tick ")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A service with a file and room for one answer in the background."""
    path = tmp_path_factory.mktemp("kept") / "store.db"
    with start(path, LLM_GATEWAY__STORE__BACKGROUND="1", LOG_LEVEL="DEBUG") as service:
        yield service, path


def test_an_answer_that_died_with_its_worker_is_failed_and_its_room_is_free(kept):
    service, _ = kept
    path = in_background(service)
    begun(service, path)
    os.kill(killed := worker(service.process.pid), signal.SIGKILL)
    eventually(lambda: worker(service.process.pid) not in (0, killed), PATIENCE)
    service.wait_for("/readyz")
    failed = service.client.get(path).json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "the service went down before the answer was finished" in failed["error"]["message"]
    assert service.client.get(path).json() == failed
    other = in_background(service)
    assert service.client.post(f"{other}/cancel").json()["status"] == "cancelled"


def test_a_file_that_another_program_has_locked_costs_no_answer(kept):
    service, path = kept
    made = create(service).json()["id"]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = create(service)
        assert (answer.status_code, answer.headers["x-stored"]) == (200, "false")
        assert service.client.get(f"/v1/responses/{made}").status_code == 200
    assert service.client.delete(f"/v1/responses/{made}").json()["deleted"] is True


def test_what_is_stored_is_no_text_in_the_log(kept):
    service, _ = kept
    create(service, input="zebra")
    assert "zebra" not in service.output


def damage(path):
    path.write_bytes(b"no database at all, but long enough to look like a page of one" * 100)
    path.chmod(0o600)


def open_to_all(path):
    path.touch(mode=0o644)
    path.chmod(0o644)


def of_another_program(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    path.chmod(0o600)


def linked(path):
    path.symlink_to(path.with_name("elsewhere"))


REASONS = {
    damage: "damaged or no database",
    open_to_all: "its mode is 0644",
    of_another_program: "another program",
    linked: "symbolic link",
}


@pytest.mark.parametrize("make", REASONS)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_2(tmp_path, make):
    path = tmp_path / "store.db"
    make(path)
    named = {"LLM_GATEWAY__STORE__FILE": str(path), "ENGINE": "echo"}
    command = [sys.executable, "-m", "gateway", "serve"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | named, timeout=60)
    assert ended.returncode == 2
    (line,) = (ended.stdout + ended.stderr).strip().splitlines()
    assert "LLM_GATEWAY__STORE__FILE" in line
    assert f"{path}: " in line
    assert REASONS[make] in line


def fill(path):
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def events(service):
    return [line["event"] for line in service.lines if line.get("event", "").startswith("store_")]


def test_a_full_disk_costs_no_answer(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk, start(disk / "store.db") as service:
        kept = create(service)
        assert "x-stored" not in kept.headers
        fill(disk / "filler")
        answer = create(service, input="word " * 4_000)
        assert answer.status_code == 200
        assert answer.headers["x-stored"] == "false"
        assert answer.json()["output"][0]["content"][0]["text"].startswith("word ")
        assert service.client.get(f"/v1/responses/{answer.json()['id']}").status_code == 404
        streamed = create(service, input="word " * 4_000, stream=True).text
        assert ": not stored\n\nevent: response.output_text.done" in streamed
        refused = create(service, input="word " * 4_000, background=True)
        assert is_error(refused, 503, "store_unavailable")
        scrape = service.scrape()
        assert total(scrape, "llm_gateway_store_degraded") == 1
        assert total(scrape, "llm_gateway_background_answers") == 0
        eventually(lambda: events(service) == ["store_failed"], PATIENCE)
        (disk / "filler").unlink()
        assert "x-stored" not in create(service, input="word " * 4_000).headers
        eventually(lambda: events(service) == ["store_failed", "store_restored"], PATIENCE)
        assert service.client.get(f"/v1/responses/{kept.json()['id']}").json() == kept.json()


def test_the_bytes_are_bounded(tmp_path):
    with start(tmp_path / "store.db", LLM_GATEWAY__STORE__MAX_BYTES="100000") as service:
        made = [create(service, input="word " * 1_000).json()["id"] for _ in range(20)]
        assert service.metric("llm_gateway_store_bytes") <= 100_000
        found = [service.client.get(f"/v1/responses/{name}").status_code for name in made]
        assert found == sorted(found, reverse=True)
        assert (found[0], found[-1]) == (404, 200)
        large = create(service, input="w" * 60_000)
        assert (large.status_code, large.headers["x-stored"]) == (200, "false")
        assert "x-stored" not in create(service, input="w" * 60_000, store=False).headers


@pytest.mark.parametrize("path", ["responses", "conversations", "chat/completions"])
def test_an_id_that_nothing_has_is_told_in_part_however_long_it_is(tmp_path, path):
    with start(tmp_path / "store.db") as service:
        answer = service.client.get(f"/v1/{path}/{'a' * 9_000}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "not_found")
    assert "aaa" in error["message"]
    assert len(answer.content) < 400


def test_a_second_service_on_one_file_is_one_line_and_exit_2(tmp_path):
    """It would tell the clients of the first that their answers had died with a service."""
    path = tmp_path / "store.db"
    with start(path) as first:
        slow = in_background(first)
        begun(first, slow)
        os.kill(killed := worker(first.process.pid), signal.SIGKILL)  # the file is the service's, and no worker's
        eventually(lambda: worker(first.process.pid) not in (0, killed), PATIENCE)
        first.wait_for("/readyz")
        with start(path, ready=False) as second:
            assert second.process.wait(PATIENCE) == 2
            why = f"llm-gateway: store.file: {path}: another service uses it; give each service a file of its own\n"
            assert second.output == why
        first.process.send_signal(signal.SIGHUP)  # all settings are read and checked again
        eventually(lambda: '"reloaded"' in first.output, PATIENCE)
        made = create(first).json()
        assert first.client.get(f"/v1/responses/{made['id']}").json() == made
        first.process.kill()
        first.process.wait()
        with start(path) as third:
            assert third.client.get(f"/v1/responses/{made['id']}").json() == made
