"""The code of the pages runs as it stands: the engine, the clients, and every request."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.package import install
from tests.support.service import Service

ROOT = Path(__file__).parents[2]
README, API, ENGINES = (
    (ROOT / page).read_text() for page in ("README.md", "gateway/api/README.md", "plugins/README.md")
)
GROUP = "llm_gateway.engines"


def requests(page):
    """The requests of a page."""
    return re.findall(r"^curl .*$", page, re.MULTILINE)


def block(page, language, having):
    """The one block of code of a page that has the text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if having in text]
    return found


@pytest.fixture
def package(tmp_path):
    project = tomllib.loads(block(ENGINES, "toml", "[build-system]"))["project"]
    install(tmp_path, "hello_engine", block(ENGINES, "python", "Plugin("), GROUP, project["entry-points"][GROUP])
    return tmp_path


def test_the_readmes_engine_answers(package):
    settings = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__WORD": " world"}
    with Service(PYTHONPATH=str(package), ENGINE="hello", **settings) as service:
        assert service.generate(prompt="hello").json()["generated_text"] == "hello world"
        refused = service.generate(prompt="hello", top_k=5)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")


def test_the_readmes_engine_keeps_the_contract(package):
    (package / "test_hello.py").write_text(block(ENGINES, "python", "EngineContract"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(package)]
    run = subprocess.run(command, cwd=package, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("client", ["OpenAI", "Anthropic"])
def test_the_readmes_clients_get_an_answer(builtin, client):
    code = block(README, "python", f"import {client}").replace("http://127.0.0.1:8000", builtin.url)
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.stdout == "The capital of France is Paris.\n", run.stderr


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in (README, API) for line in requests(page)])
def test_every_request_of_the_pages_is_answered(builtin, page, line):
    words = shlex.split(line.replace("--json", "-H 'content-type: application/json' -d"))
    words = [word.replace("http://127.0.0.1:8000", builtin.url) for word in words]
    run = subprocess.run(words, check=True, capture_output=True, text=True)
    assert json.loads(run.stdout)["generated_text"].startswith("The capital of France is Paris.")
