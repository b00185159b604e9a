"""The README's engine is a whole one: written down, installed, asked and held to the contract as it stands."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.package import install
from tests.support.service import Service

README = (Path(__file__).parents[2] / "README.md").read_text()
GROUP = "llm_gateway.engines"


def block(language, having):
    """The one block of code in the README that has the text."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if having in text]
    return found


@pytest.fixture
def package(tmp_path):
    project = tomllib.loads(block("toml", "[build-system]"))["project"]
    install(tmp_path, "hello_engine", block("python", "Plugin("), GROUP, project["entry-points"][GROUP])
    return tmp_path


def test_the_readmes_engine_answers(package):
    settings = {"LLM_GATEWAY__ENGINES__DEFAULT__SETTINGS__WORD": " world"}
    with Service(PYTHONPATH=str(package), ENGINE="hello", **settings) as service:
        assert service.generate(prompt="hello").json()["generated_text"] == "hello world"
        refused = service.generate(prompt="hello", top_k=5)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "top_k")


def test_the_readmes_engine_keeps_the_contract(package):
    (package / "test_hello.py").write_text(block("python", "EngineContract"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(package)]
    run = subprocess.run(command, cwd=package, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("client", ["OpenAI", "Anthropic"])
def test_the_readmes_clients_get_an_answer(builtin, client):
    code = block("python", f"import {client}").replace("http://127.0.0.1:8000", builtin.url)
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert run.stdout == "The capital of France is Paris.\n", run.stderr
