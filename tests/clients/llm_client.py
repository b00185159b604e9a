"""The command `llm`, whose models of OpenAI's dialect are in `extra-openai-models.yaml`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from checks import KEY, MANY, MODEL, PROMPT, URL, check, eventually, run, running

FOLDER = Path("llm")
MODELS = f"""
- model_id: chat
  model_name: {MODEL}
  api_base: {URL}/v1
  api_key_name: gateway
- model_id: text
  model_name: {MODEL}
  api_base: {URL}/v1
  api_key_name: gateway
  completion: true
- model_id: nobody
  model_name: gpt-none
  api_base: {URL}/v1
  api_key_name: gateway
"""
QUESTION = "What is the capital of France?"

FOLDER.mkdir()
(FOLDER / "extra-openai-models.yaml").write_text(MODELS)
os.environ["LLM_USER_PATH"] = str(FOLDER.resolve())


def start(*arguments):
    command = [sys.executable, "-m", "llm", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def llm(*arguments, status=0):
    process = start(*arguments)
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == status, wrong
    return said if status == 0 else wrong


@check
def the_models_are_listed():
    listed = llm("models", "list")
    assert "chat" in listed
    llm("keys", "set", "gateway", "--value", KEY)


@check
def a_streamed_answer_is_the_whole_one():
    asked = ("-m", "chat", QUESTION, "-o", "temperature", "0", "-o", "max_tokens", "30")
    whole = llm(*asked, "--no-stream")
    assert "Paris" in whole
    assert llm(*asked) == whole


@check
def a_system_prompt_options_and_the_usage():
    asked = ("-m", "chat", QUESTION, "-s", "You are brief.", "-o", "seed", "1", "-o", "stop", ".", "--usage")
    assert llm(*asked, "--no-stream", "-o", "max_tokens", "20").strip()


@check
def a_conversation_goes_on():
    llm("-m", "chat", "My name is Ada.", "-o", "temperature", "0", "-o", "max_tokens", "20")
    assert llm("-c", "What is my name?", "-o", "temperature", "0", "-o", "max_tokens", "20").strip()


@check
def completions():
    assert "Paris" in llm("-m", "text", PROMPT, "-o", "temperature", "0", "-o", "max_tokens", "8")


@check
def errors_are_told():
    assert "context length" in llm("-m", "chat", QUESTION, "-o", "max_tokens", "1000000", status=1)
    assert "gpt-none" in llm("-m", "nobody", QUESTION, status=1)
    assert "key" in llm("-m", "chat", QUESTION, "--key", "wrong", status=1)


@check
def who_ends_it_in_the_middle_leaves_nothing_behind():
    process = start("-m", "chat", "Tell me a very long story.", "-o", "max_tokens", str(MANY))
    eventually(lambda: running() == 1, 60)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    eventually(lambda: running() == 0)


run()
