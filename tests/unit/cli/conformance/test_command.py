"""The command tries a server, prints what it found, and says by its exit code whether clients can rely on it."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway.cli import main as cli
from gateway.cli.conformance.command import GROUPS
from gateway.cli.conformance.rules import RULES
from tests.support.service import free_port


class Rude(BaseHTTPRequestHandler):
    """A server that lists a model, and answers everything else with what moves a terminal's cursor."""

    def do_GET(self):
        self._answer(json.dumps({"object": "list", "data": [{"id": "rude"}]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(b"\x1b[2J[red]gone")

    def _answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def rude():
    with ThreadingHTTPServer(("127.0.0.1", 0), Rude) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_service_keeps_every_must(service, capsys, tmp_path):
    file = tmp_path / "found.json"
    assert cli.main(["conformance", "--url", service.url, "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"echo at {service.url}/v1"
    found = json.loads(file.read_text())
    assert [each["rule"] for each in found["findings"]] == [each.name for each in RULES]
    assert [each for each in found["findings"] if each["outcome"] == "broken" and each["level"] == "must"] == []
    holding = sum(each["outcome"] == "holds" for each in found["findings"])
    assert lines[-1].startswith(f"{holding} hold, ")
    assert sum(line.split()[:1] == ["holds"] for line in lines) == holding


def test_groups_can_be_named(service, capsys):
    assert cli.main(["conformance", "models", "tools", "--url", f"{service.url}/v1/"]) == 0
    out = capsys.readouterr().out
    assert "is listed" not in out
    assert out.count(" must ") + out.count(" should ") == sum(each.group in ("models", "tools") for each in RULES)


def test_a_broken_must_is_exit_code_1_and_moves_no_cursor(rude, capsys):
    assert cli.main(["conformance", "answers", "--url", rude]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]gone" in out
    assert out.splitlines()[-1].split(", ")[0] == "0 hold"


def test_a_server_that_is_away_is_one_line(capsys):
    url = f"http://127.0.0.1:{free_port()}"
    assert cli.main(["conformance", "--url", url]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"llm-gateway: cannot reach {url}/v1: ")
    assert error.count("\n") == 1


def test_a_server_that_keeps_still_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as still:
        url = f"http://127.0.0.1:{still.getsockname()[1]}"
        assert cli.main(["conformance", "--url", url, "--timeout", "0.1"]) == 1
    assert capsys.readouterr().err == f"llm-gateway: cannot reach {url}/v1: no answer came in time\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("manners",), f"there is no group manners; there are {', '.join(GROUPS)}"),
        (("--json", "/no/such/folder/found.json"), "/no/such/folder/found.json: there is no such folder"),
        *((("--url", url), f"{url} is no http URL") for url in ("ftp://x", "http://", "http://[::1", "http://a:99999")),
        (("--timeout", "0"), "--timeout 0 is out of bounds"),
    ],
)
def test_wrong_usage_is_exit_code_2(flags, said, capsys):
    assert cli.main(["conformance", "--url", "http://127.0.0.1:9", *flags]) == 2
    assert capsys.readouterr().err == f"llm-gateway: {said}\n"


def test_a_server_without_a_model_asks_for_one(service, capsys):
    assert cli.main(["conformance", "--url", f"{service.url}/no/such"]) == 1
    assert "name one with --model" in capsys.readouterr().err
