"""The command `batch`: sends a file, waits, writes the answers; run again, it takes its batch up."""

import json

import pytest

from gateway.cli import main
from tests.support.batches import Lines
from tests.support.service import Service


@pytest.fixture(scope="module")
def house():
    """One service for these tests, as batches of the same lines are found again."""
    with Service(LLM_GATEWAY__BATCHES__QUIET_SECONDS="0") as running:
        yield running


def lines(*texts):
    bodies = ({"model": "echo", "messages": [{"role": "user", "content": text}]} for text in texts)
    return Lines("/v1/chat/completions").add_all(bodies)


def run(house, *words):
    return main.main(["batch", *map(str, words), "--url", house.url])


def answers(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [each["response"]["body"]["choices"][0]["message"]["content"] for each in found]


def batches(house):
    return house.client.get("/v1/batches").json()["data"]


def test_a_file_is_answered_beside_it_and_the_same_file_is_not_answered_twice(house, tmp_path, capsys):
    given = tmp_path / "questions.jsonl"
    given.write_bytes(lines("one", "two").content)
    assert run(house, given) == 0
    assert answers(tmp_path / "questions.output.jsonl") == ["one", "two"]
    assert "is completed: 2 of 2 answered" in capsys.readouterr().out
    count = len(batches(house))
    other = tmp_path / "again.jsonl"
    assert run(house, given, "--output", other) == 0
    assert answers(other) == ["one", "two"]
    assert len(batches(house)) == count
    assert "is taken up again" in capsys.readouterr().err
    assert run(house, given, "--again") == 0
    assert len(batches(house)) == count + 1
    house.client.delete(f"/v1/files/{batches(house)[0]['output_file_id']}").raise_for_status()
    house.client.delete(f"/v1/files/{batches(house)[1]['output_file_id']}").raise_for_status()
    assert run(house, given) == 0  # what they wrote is gone
    assert len(batches(house)) == count + 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_lines_that_fail_are_beside_the_answers_and_the_exit_code_says_so(house, tmp_path, capsys):
    given = tmp_path / "questions.jsonl"
    given.write_bytes(lines("three").add({"model": "none", "messages": [{"role": "user", "content": "a"}]}).content)
    assert run(house, given, "--output", tmp_path / "answers.jsonl") == 1
    assert answers(tmp_path / "answers.jsonl") == ["three"]
    (failed,) = (tmp_path / "answers.errors.jsonl").read_text().splitlines()
    assert json.loads(failed)["response"]["status_code"] == 404
    assert "1 of 2 answered, 1 failed" in capsys.readouterr().out


def test_wrong_lines_are_told_by_their_numbers(house, tmp_path, capsys):
    given = tmp_path / "questions.jsonl"
    given.write_bytes(lines("one").content + b"no json\n")
    assert run(house, given) == 1
    told = capsys.readouterr()
    assert "line 2: this line is not valid JSON" in told.err
    assert "is failed: 0 of 0 answered" in told.out


WRONG = {
    "no such file": (lambda folder: [folder / "none"], 1, "No such file"),
    "no request": (lambda folder: [_written(folder, b"no json")], 1, "see --endpoint"),
    "no such folder": (lambda folder: [_written(folder), "--output", folder / "none" / "a"], 2, "no such folder"),
    "no such window": (lambda folder: [_written(folder), "--window", "soon"], 1, "completion_window"),
    "no such route": (lambda folder: [_written(folder), "--endpoint", "/v1/none"], 1, "endpoint"),
}


def _written(folder, content=None):
    path = folder / "questions.jsonl"
    path.write_bytes(lines("wrong").content if content is None else content)
    return path


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(house, tmp_path, capsys, name):
    words, code, told = WRONG[name]
    assert run(house, *words(tmp_path)) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("llm-gateway: ")
    assert told in line


def test_a_gateway_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main.main(["batch", str(_written(tmp_path)), "--url", "http://127.0.0.1:9"]) == 1
    assert "there is no gateway at http://127.0.0.1:9" in capsys.readouterr().err
