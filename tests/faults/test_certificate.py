"""TLS: SIGHUP takes up another certificate, and nothing that runs notices; what cannot be used changes nothing."""

import http.client
import json
import shutil
import signal
import socket
import ssl
from contextlib import closing

import psutil
import pytest

from tests.support import certificate
from tests.support.observe import eventually
from tests.support.processes import worker
from tests.support.service import Service

pytestmark = pytest.mark.skipif(certificate.program() is None, reason=certificate.MISSING)

PATIENCE = 60.0


class Site:
    """A service with TLS, its files, and what a client sees of it."""

    def __init__(self, folder, **settings) -> None:
        self.folder = folder
        self.first = certificate.make(folder, "first", "first")
        self.second = certificate.make(folder, "second", "second")
        self.used = certificate.Certificate(folder / "used.crt", folder / "used.key")
        self.put(self.first)
        self.service = Service(
            ready=False,
            LLM_GATEWAY__SERVER__TLS_CERTIFICATE=str(self.used.file),
            LLM_GATEWAY__SERVER__TLS_KEY=str(self.used.key),
            LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__DELAY="0.05",
            **settings,
        )
        self.context = ssl.create_default_context(cafile=str(self.first.file))
        self.context.load_verify_locations(str(self.second.file))

    def put(self, made):
        for source, target in zip(made, self.used, strict=True):
            shutil.copyfile(source, target)

    def __enter__(self):
        self.service.__enter__()
        eventually(self._is_ready, PATIENCE)
        return self

    def __exit__(self, *exception):
        self.service.__exit__(*exception)

    def _is_ready(self) -> bool:
        try:
            return self.ask_once("/readyz") == 200
        except OSError:
            return False

    def ask_once(self, path) -> int:
        with closing(self.connect()) as connection:
            return self.ask(connection, "GET", path)[0]

    def connect(self):
        return http.client.HTTPSConnection("127.0.0.1", self.service.port, context=self.context, timeout=PATIENCE)

    def ask(self, connection, method, path, body=None):
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def name(self) -> str:
        """Return the name in the certificate that a new connection gets."""
        with (
            socket.create_connection(("127.0.0.1", self.service.port), PATIENCE) as plain,
            self.context.wrap_socket(plain, server_hostname="localhost") as secret,
        ):
            return dict(pair[0] for pair in secret.getpeercert()["subject"])["commonName"]

    def reload(self, event="reloaded"):
        before = self.events().count(event)
        self.service.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.events().count(event) > before, PATIENCE)

    def events(self):
        return [line.get("event") for line in self.service.lines]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("certificates")) as running:
        yield running


def test_another_certificate_is_taken_up_and_nothing_that_runs_is_lost(site):
    process = worker(site.service.process.pid)
    body = {"prompt": " ".join("word" for _ in range(40)), "stream": True, "return_full_text": False}
    with closing(site.connect()) as streaming:
        streaming.request("POST", "/v1/generate", json.dumps(body), {"content-type": "application/json"})
        with streaming.getresponse() as answer:
            assert answer.readline().startswith(b"data: ")
            for made, name in ((site.second, "second"), (site.first, "first"), (site.second, "second")):
                site.put(made)
                site.reload()
                assert eventually(lambda name=name: site.name() == name, PATIENCE)
                assert site.ask_once("/v1/models") == 200
            assert answer.read().rstrip().endswith(b"data: [DONE]")
    assert worker(site.service.process.pid) == process


def test_files_that_cannot_be_used_change_nothing(site):
    before = site.name()
    site.used.key.write_text("no key")
    site.reload("reload_failed")
    assert site.name() == before
    site.put(site.first)
    site.reload()
    assert eventually(lambda: site.name() == "first", PATIENCE)


def test_many_renewals_leave_nothing_behind(site):
    process = psutil.Process(worker(site.service.process.pid))

    def held():
        return process.num_threads(), process.num_fds()

    before = held()
    for number in range(6):
        site.put((site.second, site.first)[number % 2])
        site.reload()
    assert site.name() == "first"
    # What is left of the native half before is two threads and a few descriptors; of six it would be ten times that.
    assert eventually(lambda: all(now <= then + 4 for now, then in zip(held(), before, strict=True)), PATIENCE)


def test_a_client_needs_a_certificate_that_the_authority_has_signed(tmp_path):
    authority = certificate.make(tmp_path, "authority", "authority")
    client = certificate.sign(tmp_path, "client", authority)
    site = Site(tmp_path, LLM_GATEWAY__SERVER__TLS_CLIENT_CA=str(authority.file))
    site.context.load_cert_chain(client.file, client.key)
    with site:
        assert site.ask_once("/v1/models") == 200
        site.context = ssl.create_default_context(cafile=str(site.first.file))
        with pytest.raises((ssl.SSLError, ConnectionError)):  # TLS 1.3 says so with the first answer
            site.ask_once("/v1/models")
        assert site.service.process.poll() is None
