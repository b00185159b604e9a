"""A batch of the built-in model, killed in the middle, has the answers that the model gives when it is asked."""

import os
import signal

import openai
import pytest

from tests.support.batches import Lines, ended, lines_of
from tests.support.observe import eventually
from tests.support.service import Service

# Four starts of the model, which a busy machine takes minutes for.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 180.0
MODEL = "smollm2-135m-instruct"


def ask(number):
    question = f"What is {number} plus {number}?"
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12}


def test_a_batch_that_is_killed_three_times_is_right(tmp_path):
    lines, made, seen = Lines("/v1/chat/completions").add_all(ask(number) for number in range(24)), None, 0
    environment = {"ENGINE": "hf", "LLM_GATEWAY__STORE__FILE": str(tmp_path / "store.db")}

    def start():
        return Service(**environment, ready=False, leads=True)

    for _ in range(3):
        with start() as service, openai.OpenAI(base_url=service.url + "/v1", api_key="none") as client:
            service.wait_for("/readyz", seconds=PATIENCE)
            if made is None:
                given = client.files.create(file=("a.jsonl", lines.content), purpose="batch")
                made = client.batches.create(input_file_id=given.id, endpoint=lines.url, completion_window="1h")
            eventually(lambda: client.batches.retrieve(made.id).request_counts.completed > seen, PATIENCE)  # noqa: B023
            seen = client.batches.retrieve(made.id).request_counts.completed
            os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait(PATIENCE)
    with start() as service, openai.OpenAI(base_url=service.url + "/v1", api_key="none") as client:
        service.wait_for("/readyz", seconds=PATIENCE)
        over = ended(client, made, PATIENCE)
        assert (over.status, over.request_counts.completed) == ("completed", 24)
        found = lines_of(client, over.output_file_id)
        assert [each["custom_id"] for each in found] == lines.ids
        for number in (0, 11, 23):
            answer = client.chat.completions.create(**ask(number)).choices[0].message.content
            assert found[number]["response"]["body"]["choices"][0]["message"]["content"] == answer
