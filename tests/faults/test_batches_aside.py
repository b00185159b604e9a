"""A real engine puts the lines of a batch aside for each request, and loses nothing of them."""

import threading

import openai
import pytest

from tests.support.batches import Lines, ended, lines_of
from tests.support.observe import eventually
from tests.support.service import Service
from tests.support.tiny_models import make_tiny

pytestmark = pytest.mark.slow

PATIENCE = 60.0
LINES, TOKENS = 4, 120


def ask(number, tokens=TOKENS):
    prompt = f"The quick brown fox {number}"
    return {"model": "tiny", "prompt": prompt, "temperature": 0, "max_tokens": tokens, "ignore_eos": True}


@pytest.fixture
def service(tmp_path):
    own = "LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__"
    settings = {"MODEL": str(make_tiny("llama", tmp_path / "tiny")), "DTYPE": "float32", "THREADS": "1", "PLACES": "2"}
    settings |= {"KERNELS": "off", "CACHE_TOKENS": "2048"}
    environment = {f"{own}{name}": value for name, value in settings.items()}
    more = {"LLM_GATEWAY__STORE__FILE": str(tmp_path / "store.db"), "LLM_GATEWAY__BATCHES__QUIET_SECONDS": "0.02"}
    with Service(ENGINE="hf", **environment, **more) as running:
        yield running


def test_lines_get_on_between_requests_that_never_leave_them_the_time_for_one(service):
    """A line takes longer than the gaps: begun anew after each request, none would ever be answered."""
    asked, stop = [], threading.Event()

    def keep_asking():
        while not stop.wait(0.05):
            asked.append(service.client.post("/v1/completions", json=ask("live", 40)).status_code)

    with openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0) as client:
        lines = Lines("/v1/completions").add_all(ask(number) for number in range(LINES))
        given = client.files.create(file=("a.jsonl", lines.content), purpose="batch")
        made = client.batches.create(input_file_id=given.id, endpoint=lines.url, completion_window="1h")
        eventually(lambda: client.batches.retrieve(made.id).status == "in_progress", PATIENCE)
        asking = threading.Thread(target=keep_asking)
        asking.start()
        try:
            over = ended(client, made, PATIENCE)
        finally:
            stop.set()
            asking.join()
        assert (over.status, over.request_counts.completed) == ("completed", LINES)
        told = [each["response"]["body"]["choices"][0]["text"] for each in lines_of(client, over.output_file_id)]
        assert set(asked) == {200}
        assert len(asked) > LINES
        assert service.metric("llm_gateway_batch_lines_total", result="gave_way") == 0
        alone = [client.post("/completions", cast_to=object, body=ask(number)) for number in range(LINES)]
    assert told == [each["choices"][0]["text"] for each in alone]
