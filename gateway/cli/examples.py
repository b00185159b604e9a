"""Two examples for each command, shown at the end of its help."""

import argparse
from collections.abc import Mapping

from gateway.config import command

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "": ("--model ./my-model --port 9000", "chat --system 'You are brief.'"),
    "serve": ("serve --model HuggingFaceTB/SmolLM2-135M-Instruct", "serve --config gateway.toml --log-level DEBUG"),
    "check": ("check", "check --config gateway.toml --host 0.0.0.0"),
    "health": ("health", "health --port 9000"),
    "engines": ("engines", "engines --config gateway.toml --json"),
    "models": ("models", "models --url https://gpu-box:8000 --ca site.crt --table"),
    "requests": ("requests", "requests --url http://gpu-box:8000 --json"),
    "top": ("top", "top --url http://gpu-box:8000 --json --count 60 --interval 10"),
    "completion": ("completion bash", "completion fish"),
    "chat": ("chat", "chat --url http://gpu-box:8000 --temperature 0"),
    "bench": ("bench --concurrency 1,8,32", "bench --url http://gpu-box:8000/v1 --rate 2,4 --json results.json"),
    "batch": ("batch questions.jsonl", "batch questions.jsonl --output answers.jsonl --window 7d"),
    "conformance": ("conformance", "conformance --url http://gpu-box:8000 streams tools --json found.json"),
    "keys": ("keys create shop --file keys.db", "keys list --file keys.db"),
    "keys create": (
        "keys create shop --file keys.db --model smollm2-135m-instruct --expires 30d",
        "keys create prometheus --file keys.db --scope metrics",
    ),
    "keys list": ("keys list", "keys list --file keys.db --json"),
    "cache": ("cache list", "cache clear"),
    "cache list": ("cache list", "cache list --config gateway.toml"),
    "cache clear": ("cache clear", "cache clear --folder /var/cache/llm-gateway"),
    "keys revoke": ("keys revoke shop", "keys revoke shop --file keys.db"),
}


def show_examples(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the examples of the command `name` to the end of its help."""
    lines = [f"  {command()} {example}" for example in EXAMPLES[name]]
    parser.epilog = "\n".join(["examples:", *lines])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
