"""One dependable HTTP service in front of language models that run on your own machines."""

from importlib.metadata import version

__version__ = version("llm-gateway")
