"""A shadow is asked what clients ask, and compared; whatever becomes of it, clients learn and wait for nothing."""

import signal

import pytest

from tests.support.observe import eventually
from tests.support.service import Service, total

PATIENCE = 60.0
TEXTS = '{texts = ["Once", " upon", " a", " time."]}'
CONFIG = f"""
[engines.first]
plugin = "scripted"
settings = {{model = "first", script = {TEXTS}}}

[engines.twin]
plugin = "scripted"
settings = {{model = "twin", script = {TEXTS}}}

[engines.other]
plugin = "scripted"
settings = {{model = "other", script = {{texts = ["Once", " upon", " a", " hill."]}}}}

[engines.failing]
plugin = "scripted"
settings = {{model = "failing", script = {{fault = "raise", code = "upstream_unavailable", after = -1}}}}

[engines.breaking]
plugin = "scripted"
settings = {{model = "breaking", script = {{fault = "bug", after = 2}}}}

[engines.hanging]
plugin = "scripted"
settings = {{model = "hanging", places = 4, script = {{fault = "hang", after = -1}}}}

[engines.stuck]
plugin = "scripted"
settings = {{model = "stuck", places = 4, script = {{fault = "hang", after = 2}}}}

[engines.dying]
plugin = "scripted"
isolated = true
settings = {{model = "dying", script = {{fault = "exit", after = 2}}}}
"""
SHADOWS = ("twin", "other", "failing", "breaking", "hanging", "stuck", "dying")
PROMPT = {"prompt": "once", "return_full_text": False}
STORY = "Once upon a time."


def route(name):
    shadow = f'{{engine = "{name}", share = 1.0, at_once = 2}}'
    return f'\n[routes.by_{name}]\nengines = ["first"]\nshadow = {shadow}\n'


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("shadow") / "gateway.toml"
    path.write_text(CONFIG + "".join(map(route, SHADOWS)))
    return path


@pytest.fixture(scope="module")
def shadowed(file):
    with Service("--config", str(file), ENGINE="") as service:
        yield service


def copies(service, name):
    scrape = service.scrape()
    results = ("same", "text", "reason", "dropped", "upstream_unavailable", "engine_error", "engine_restarted")
    counts = {each: total(scrape, "llm_gateway_shadows_total", engine=name, result=each) for each in results}
    return {result: count for result, count in counts.items() if count}


def ask(service, model, *, stream=False):
    answer = service.generate(**PROMPT, model=model, stream=stream)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("twin", "same"),
        ("other", "text"),
        ("failing", "upstream_unavailable"),
        ("breaking", "engine_error"),
        ("dying", "engine_restarted"),
    ],
)
def test_an_answer_is_the_clients_and_its_copy_is_counted(shadowed, name, result, stream):
    def is_counted():
        return copies(shadowed, name).get(result, 0) > before

    before = copies(shadowed, name).get(result, 0)
    plain = ask(shadowed, "first", stream=stream)
    answer = ask(shadowed, f"by_{name}", stream=stream)
    text = answer.text if stream else answer.json()["generated_text"]
    assert text.count("time.") == 1 if stream else text == STORY
    told = set(answer.headers) - {"x-engine"}
    assert told == set(plain.headers)
    assert answer.headers["x-engine"] == "first"
    # It is dropped while its engine's process is replaced.
    assert is_counted() or eventually(lambda: ask(shadowed, f"by_{name}") and is_counted(), PATIENCE)


def test_how_far_both_agree_and_how_long_both_took_is_measured(shadowed):
    ask(shadowed, "by_other")
    eventually(lambda: copies(shadowed, "other"), PATIENCE)
    scrape = shadowed.scrape()
    count = total(scrape, "llm_gateway_shadow_divergence_count", engine="other")
    assert total(scrape, "llm_gateway_shadow_divergence_sum", engine="other") == 3 * count
    for answer in ("answer", "copy"):
        assert total(scrape, "llm_gateway_shadow_duration_seconds_count", engine="other", answer=answer) == count


@pytest.mark.parametrize("name", ["hanging", "stuck"])
def test_a_shadow_that_hangs_holds_up_no_answer_and_gets_no_more_copies(shadowed, name):
    for _ in range(6):
        assert ask(shadowed, f"by_{name}").json()["generated_text"] == STORY
    eventually(lambda: copies(shadowed, name) == {"dropped": 4}, PATIENCE)


def test_a_service_with_a_shadow_that_hangs_drains_at_once(file):
    with Service("--config", str(file), ENGINE="", LLM_GATEWAY__SERVER__DRAIN_SECONDS="600") as service:
        ask(service, "by_hanging")
        ask(service, "by_stuck")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
