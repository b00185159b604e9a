"""Who answers by the strategy of a route while many clients ask at once, over HTTP."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.service import Service

CLIENTS = 16
CONFIG = """
[engines.east]
plugin = "echo"
settings = {model = "east", delay = 0.002, places = 4}

[engines.west]
plugin = "echo"
settings = {model = "west", delay = 0.002, places = 4}

[engines.wide]
plugin = "echo"
settings = {model = "wide", delay = 0.002, places = 64}

[engines.broad]
plugin = "echo"
settings = {model = "broad", delay = 0.002, places = 64}

[routes.three_to_one]
engines = ["east", "west"]
strategy = "weighted"
weights = {east = 3}

[routes.talk]
engines = ["wide", "broad"]
strategy = "prefix"

[routes.even]
engines = ["east", "west"]
strategy = "least_loaded"
"""


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    file = tmp_path_factory.mktemp("strategies") / "gateway.toml"
    file.write_text(CONFIG)
    with Service("--config", str(file), ENGINE="") as service:
        yield service


def asked(service, bodies):
    """Ask for all, as many at once as there are clients; return the name of the engine that answered each."""

    def ask(body):
        answer = service.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-engine"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(ask, bodies))


def chat(model, *said):
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    return {"model": model, "messages": messages}


def test_weights_hold_while_both_engines_have_a_line(routed):
    answered = Counter(asked(routed, [chat("three_to_one", "a b c")] * 400))
    assert answered["east"] / 400 == pytest.approx(0.75, abs=0.11)  # five times the deviation of such draws
    assert answered["east"] + answered["west"] == 400


def test_the_turns_of_a_conversation_meet_one_engine(routed):
    said = ["one", "two", "three", "four", "five"]
    bodies = [chat("talk", f"Story {number}.", *said[:turn]) for turn in (0, 2, 4) for number in range(40)]
    answered = asked(routed, bodies)
    homes = [set(answered[number::40]) for number in range(40)]
    assert all(len(home) == 1 for home in homes)
    assert set.union(*homes) == {"wide", "broad"}


def test_the_load_is_even_where_the_least_loaded_is_asked(routed):
    answered = Counter(asked(routed, [chat("even", "a b c")] * 400))
    assert min(answered["east"], answered["west"]) > 400 / 4
