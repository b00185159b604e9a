"""Clients that leave: whoever goes frees the place at once, and is written down as one who left."""

import time

import pytest

from tests.support.observe import eventually, play, scrape
from tests.support.rawhttp import RawHTTP, post
from tests.support.service import Service

# Ten seconds and more, in the one place of the engine that follows scripts.
SLOW = play(texts=["tick "], delay=0.05)
LONG = {"model": "scripted", "prompt": SLOW, "ignore_eos": True, "max_new_tokens": 400, "return_full_text": False}
QUICK = {"model": "scripted", "prompt": play(texts=["free"]), "return_full_text": False}
SLACK = 20 * 0.1

LEAVE = {"FIN": lambda client: client.__exit__(), "RST": RawHTTP.reset, "half-close": RawHTTP.half_close}


def places(service: Service) -> tuple[int, int]:
    """Return how many run and how many wait in the engine that follows scripts."""
    actor = service.client.get("/v1/health").json()["engines"][1]
    return actor["running"], actor["waiting"]


def begin(service: Service, **body) -> RawHTTP:
    return RawHTTP(service.port).send(post(LONG | body))


def last_line(service: Service, known: int) -> dict:
    lines = eventually(lambda: [line for line in service.requests() if line["outcome"] == "client_closed"][known:])
    assert len(lines) == 1
    return lines[0]


def left(service: Service) -> int:
    return sum(line["outcome"] == "client_closed" for line in service.requests())


def assert_freed(service: Service) -> None:
    begun = time.monotonic()
    answer = service.generate(**QUICK)
    assert (answer.status_code, answer.json()["generated_text"]) == (200, "free")
    assert time.monotonic() - begun < SLACK
    assert places(service) == (0, 0)


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_leaving_a_stream_frees_its_place(edge, leave):
    known = left(edge)
    client = begin(edge, stream=True)
    client.read_until(b"tick")
    leave(client)
    assert_freed(edge)
    line = last_line(edge, known)
    assert line["code"] == "client_closed_request"
    assert line.get("tokens", 0) >= 1
    client.__exit__()


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_leaving_before_a_whole_answer_frees_its_place(edge, leave):
    known = left(edge)
    client = begin(edge)
    eventually(lambda: places(edge) == (1, 0))
    leave(client)
    assert_freed(edge)
    line = last_line(edge, known)
    assert (line["status"], line["code"]) == (499, "client_closed_request")
    client.__exit__()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_leaving_the_line_frees_it_without_touching_who_runs(edge, leave, stream):
    known = left(edge)
    with begin(edge, stream=True) as running:
        running.read_until(b"tick")
        waiting = begin(edge, stream=stream)
        eventually(lambda: places(edge) == (1, 1))
        leave(waiting)
        eventually(lambda: places(edge) == (1, 0), SLACK)
        line = last_line(edge, known)
        assert (line["status"], line["code"], line.get("tokens")) == (499, "client_closed_request", None)
        running.read_until(b"tick")
        waiting.__exit__()
    assert_freed(edge)


def test_leaving_while_the_prompt_is_read_frees_the_place(edge):
    for stream in (False, True):
        client = begin(edge, prompt=play(texts=["late"], prefill=10), stream=stream)
        eventually(lambda: places(edge) == (1, 0))
        client.__exit__()
        assert_freed(edge)


def test_leaving_an_engine_that_hangs_frees_its_place(edge):
    for after in (-1, 2):
        client = begin(edge, prompt=play(fault="hang", after=after), stream=True)
        eventually(lambda: places(edge) == (1, 0))
        client.reset()
        assert_freed(edge)


def test_a_client_that_never_reads_frees_its_place_when_it_leaves(edge):
    client = begin(edge, prompt=play(texts=["much " * 1_000], delay=0.001), stream=True)
    eventually(lambda: places(edge) == (1, 0))
    client.reset()
    assert_freed(edge)


def test_twenty_clients_that_leave_at_once_leave_nothing(edge):
    clients = [begin(edge, stream=number % 2 == 0) for number in range(20)]
    eventually(lambda: sum(places(edge)) == 20)
    assert edge.metric("llm_gateway_active_requests", model="scripted") == 20
    for client in clients:
        client.reset()
    eventually(lambda: places(edge) == (0, 0), SLACK)
    assert_freed(edge)
    assert edge.metric("llm_gateway_active_requests", model="scripted") == 0


def test_who_left_is_counted_by_phase(edge):
    sample = 'llm_gateway_client_disconnects_total{{phase="{}"}}'.format
    before = scrape(edge)
    with begin(edge, stream=True) as streaming:
        streaming.read_until(b"tick")
    eventually(lambda: places(edge) == (0, 0))
    with begin(edge):
        eventually(lambda: places(edge) == (1, 0))
    eventually(lambda: places(edge) == (0, 0))
    after = scrape(edge)
    assert {phase: after.get(sample(phase), 0) - before.get(sample(phase), 0) for phase in ("stream", "compute")} == {
        "stream": 1,
        "compute": 1,
    }


def test_a_disconnect_is_no_refusal(edge):
    sample = 'llm_gateway_rejected_total{code="client_closed_request"}'
    with begin(edge):
        eventually(lambda: places(edge) == (1, 0))
    eventually(lambda: places(edge) == (0, 0))
    assert sample not in scrape(edge)


def test_a_client_that_reads_nothing_gives_its_place_back():
    with Service(LLM_GATEWAY__SERVER__STALL_SECONDS="0.5") as service:
        # 16 MB of frames: more than the buffers between the two ends hold.
        body = {"prompt": "x" * 20_000 + " ", "ignore_eos": True, "stream": True, "max_new_tokens": 800}
        with RawHTTP(service.port) as connection:
            connection.send(post(body)).read_until(b"data: ")
            eventually(lambda: service.metric("llm_gateway_active_requests") == 0)
            assert service.metric("llm_gateway_stream_aborts_total", cause="write_timeout") == 1
            assert service.client.post("/v1/models/echo/unload").json()["loaded"] is False
