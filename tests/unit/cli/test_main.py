"""The command line without a service."""

import io
import json
import os
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gateway import __version__, config
from gateway.cli import main as cli
from tests.support import certificate
from tests.support.pages import Page, serving


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in (*config.PLAIN, "LLM_GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENGINE", "echo")


def test_check_says_that_all_is_well(capfd):
    assert cli.main(["check"]) == 0
    assert "the configuration is right" in capfd.readouterr().out


def test_check_shows_warnings(capfd, monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")
    assert cli.main(["check"]) == 0
    assert "warning: DEVICE is ignored" in capfd.readouterr().out


def test_check_says_what_is_wrong_where(capfd, tmp_path):
    (tmp_path / "bad.toml").write_text("[server]\nport = -1\n")
    assert cli.main(["check", "--config", "bad.toml"]) == 2
    assert capfd.readouterr().err == "llm-gateway: bad.toml: server.port: expected `int` >= 1\n"


@pytest.mark.skipif(certificate.program() is None, reason=certificate.MISSING)
def test_check_tells_the_address_by_its_scheme_and_in_brackets(capfd, tmp_path):
    made = certificate.make(tmp_path, "site", "llm.example.com")
    table = f'[server]\nhost = "::1"\nport = 7\ntls_certificate = "{made.file}"\ntls_key = "{made.key}"\n'
    (tmp_path / "gateway.toml").write_text(table)
    assert cli.main(["check", "--config", "gateway.toml"]) == 0
    assert "the configuration is right: https://[::1]:7, engines" in capfd.readouterr().out


def test_output_that_is_read_no_longer_leaves_no_traceback():
    """Once what is written meets a closed pipe at once, once only at the end, as a small text waits in its buffer."""
    for unbuffered in ("", "1"):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "gateway", "engines"]
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        ended = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=60, check=False, text=True
        )
        os.close(writing)
        assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("count", ["0", "-1"])
def test_a_count_of_looks_is_one_or_more(capfd, count):
    with pytest.raises(SystemExit) as raised:
        cli.main(["top", f"--count={count}"])
    assert raised.value.code == 2
    assert "expected 1 or more" in capfd.readouterr().err


def test_a_request_is_ended_with_json_where_that_is_asked(capfd):
    page = Page(body=b'{"id": "r1", "object": "request.cancelled"}')
    with serving({"/v1/requests/r1": page}) as address:
        for words, said in ((["--json"], '"id": "r1"'), ([], "r1 is ended")):
            assert cli.main(["requests", "--url", f"http://{address}", "--cancel", "r1", *words]) == 0
            assert said in capfd.readouterr().out


@pytest.mark.skipif(certificate.program() is None, reason=certificate.MISSING)
@pytest.mark.parametrize("command", ["models", "conformance", "bench", "batch"])
def test_clients_trust_the_authority_that_they_are_given(capfd, tmp_path, command):
    made = certificate.make(tmp_path, "site", "llm.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.file, made.key)
    (tmp_path / "q.jsonl").write_text('{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {}}\n')
    words = [command, *{"batch": ["q.jsonl"], "bench": ["--requests", "1"]}.get(command, [])]
    with serving({"/v1/models": Page(body=b'{"data": []}')}, context) as address:
        cli.main([*words, "--url", f"https://{address}"])
        assert "CERTIFICATE_VERIFY_FAILED" in capfd.readouterr().err
        cli.main([*words, "--url", f"https://{address}", "--ca", str(made.file)])
        assert "CERTIFICATE_VERIFY_FAILED" not in capfd.readouterr().err


def test_an_authority_that_cannot_be_read_is_named(capfd):
    assert cli.main(["models", "--ca", "nothing.pem"]) == 2
    assert capfd.readouterr().err == "llm-gateway: --ca nothing.pem: No such file or directory\n"


def test_flags_win(capfd, monkeypatch):
    monkeypatch.setenv("PORT", "1000")
    cli.main(["check", "--port", "2000"])
    assert ":2000" in capfd.readouterr().out


@pytest.mark.parametrize(
    "words", [["--port", "2000", "check"], ["--port=2000", "check"], ["check", "--port", "2000"]], ids=" ".join
)
def test_flags_go_before_and_after_the_command(capfd, words):
    assert cli.main(words) == 0
    assert ":2000" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "put"),
    [
        ([], ["serve"]),
        (["--port", "1"], ["serve", "--port", "1"]),
        (["--model", "check"], ["serve", "--model", "check"]),
        (["--help"], ["--help"]),
        (["--port", "1", "--help"], ["serve", "--port", "1", "--help"]),
        (["chat", "--model", "a"], ["chat", "--model", "a"]),
        (["--insecure-no-auth"], ["serve", "--insecure-no-auth"]),
        (["--insecure-no-auth", "check"], ["check", "--insecure-no-auth"]),
        (["--insecure-no-auth", "--port", "1", "check"], ["check", "--insecure-no-auth", "--port", "1"]),
        (["keys", "create", "me"], ["keys", "create", "me"]),
        (["--json", "models"], ["models", "--json"]),
        (["--json", "found.json", "conformance"], ["conformance", "--json", "found.json"]),
    ],
)
def test_the_command_is_found_among_the_flags(words, put):
    assert cli._command_first(words) == put


def test_a_wrong_flag_is_named_as_it_was_written(capfd):
    assert cli.main(["--port", "x", "check"]) == 2
    assert capfd.readouterr().err == "llm-gateway: --port: server.port: expected `int`, got `str`\n"


def install(tmp_path, monkeypatch, name, source):
    (tmp_path / f"{name}_engine.py").write_text(source)
    info = tmp_path / f"{name}_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[llm_gateway.engines]\n{name} = {name}_engine:plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def listed(capfd):
    return {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}


def test_engines_names_everyone_that_uses_a_plugin_and_what_is_for_tests(capfd, monkeypatch):
    monkeypatch.setenv("LLM_GATEWAY__ENGINES__PARROT__PLUGIN", "echo")
    assert cli.main(["engines"]) == 0
    lines = listed(capfd)
    assert lines["echo"].endswith("serves as default, parrot")
    assert lines["scripted"].endswith("(for tests)")


def test_engines_shows_a_broken_plugin_with_its_reason(capfd, monkeypatch, tmp_path):
    install(tmp_path, monkeypatch, "broken", "raise ImportError('no such library')")
    assert cli.main(["engines"]) == 0
    assert "broken: the engine plugin 'broken' cannot be imported: no such library" in listed(capfd)["broken"]
    assert cli.main(["engines", "--engine", "broken"]) == 2
    shown = capfd.readouterr()
    assert "hf" in shown.out
    assert shown.err.startswith("llm-gateway: --engine: engines.default.plugin: ")


def test_engines_lists_what_is_installed_and_used(capfd):
    assert cli.main(["engines"]) == 0
    lines = {line.split()[0]: line for line in capfd.readouterr().out.splitlines()}
    assert lines["echo"].endswith("serves as default")
    assert lines["hf"].endswith("installed")


def test_engines_are_listed_as_json_too(capfd):
    assert cli.main(["engines", "--json"]) == 0
    found = {plugin["name"]: plugin for plugin in json.loads(capfd.readouterr().out)}
    assert (found["echo"]["engines"], found["echo"]["broken"]) == (["default"], None)
    assert (found["hf"]["engines"], found["scripted"]["for_tests"]) == ([], True)


def test_an_unknown_command_or_flag_is_wrong_usage():
    for words in (["dance"], ["serve", "--nope"], ["--nope"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(words)
        assert stopped.value.code == 2


def test_version_is_the_distributions(capfd):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capfd.readouterr().out == f"llm-gateway {__version__}\n"


def test_help_imports_neither_torch_nor_litestar():
    code = "import sys; sys.argv = ['x', '--help']\n"
    code += "try:\n    import runpy; runpy.run_module('gateway', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'litestar', 'granian', 'transformers'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "serve" in ended.stdout


def test_models_and_chat_look_where_the_configuration_listens(capfd, monkeypatch):
    monkeypatch.setenv("PORT", "9")
    for command in ("models", "chat", "requests", "top"):
        assert cli.main([command]) == 1
        assert "http://127.0.0.1:9:" in capfd.readouterr().err


def test_models_and_chat_say_in_one_line_that_nobody_answers(capfd):
    for command in ("models", "chat", "requests", "top"):
        assert cli.main([command, "--url", "http://127.0.0.1:9"]) == 1
        assert capfd.readouterr().err.count("\n") == 1


def test_a_flag_without_a_value_sets_its_setting(capfd):
    assert cli.main(["check", "--host", "0.0.0.0"]) == 2  # noqa: S104 - read, not bound
    assert capfd.readouterr().err.startswith("llm-gateway: --host: server.host: there is no key, ")
    assert cli.main(["--insecure-no-auth", "check", "--host", "0.0.0.0"]) == 0  # noqa: S104 - read, not bound


@pytest.fixture
def asked():
    """An address that answers every request with an error, and the headers that it got."""
    seen = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            body = b'{"status": "ready", "model": "m", "data": [], "error": {"message": "this API key is not valid"}}'
            self.send_response(200 if self.path == "/v1/health" else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


@pytest.mark.parametrize("words", [["models"], ["chat"], ["bench", "--requests", "1"]], ids=" ".join)
@pytest.mark.parametrize("way", ["flag", "variable"])
def test_clients_send_their_key_and_never_print_it(asked, capfd, monkeypatch, words, way):
    url, seen = asked
    key = "llmg_" + "k" * 32
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    monkeypatch.setenv("LLM_GATEWAY_API_KEY", "llmg_other" if way == "flag" else key)
    assert cli.main([*words, "--url", url, *(["--api-key", key] if way == "flag" else [])]) == 1
    assert {headers.get("Authorization", headers.get("authorization")) for headers in seen} == {f"Bearer {key}"}
    shown = capfd.readouterr()
    assert key not in shown.out + shown.err


def test_clients_without_a_key_send_none(asked, capfd, monkeypatch):
    url, seen = asked
    monkeypatch.delenv("LLM_GATEWAY_API_KEY", raising=False)
    assert cli.main(["models", "--url", url]) == 1
    assert capfd.readouterr().err == "llm-gateway: this API key is not valid\n"
    assert "authorization" not in {name.lower() for name in seen[0]}


def test_a_key_that_no_header_can_carry_is_not_repeated(capfd):
    for key in ("llmg_geheim\n", "llmg_geheimä"):
        assert cli.main(["models", "--url", "http://127.0.0.1:9", "--api-key", key]) == 2
        assert "geheim" not in capfd.readouterr().err
