"""The Hugging Face transformers engine."""

from pathlib import Path

from gateway.engine import Engine, Plugin
from gateway_hf.compute import native
from gateway_hf.loading.imports import first_imports, import_transformers
from gateway_hf.settings import Settings, cache_folder
from gateway_hf.task import find_task


def build(settings: Settings) -> Engine:
    """Build the engine; only this imports torch."""
    task = find_task(settings)
    if settings.device == "cpu" and settings.kernels == "auto" and settings.dtype != "float16":
        native.begin(cache_folder(settings))  # a compiler is a process of its own, and runs while all else is imported
    with first_imports():
        import_transformers(cache_folder(settings))
        if task == "embed":
            from gateway_hf.embedding.engine import EmbeddingEngine  # noqa: PLC0415 - as below

            return EmbeddingEngine(settings)
        if task == "score":
            from gateway_hf.scoring.engine import ScoringEngine  # noqa: PLC0415 - as below

            return ScoringEngine(settings)
        from gateway_hf.engine import HfEngine  # noqa: PLC0415 - torch belongs where the engine runs

        return HfEngine(settings)


def is_remote(settings: Settings) -> bool:
    """Tell whether the model may have to be downloaded from the Hub, as far as its name says."""
    return settings.model not in {"builtin", "builtin-embedding"} and not Path(settings.model).exists()


def estimate(settings: Settings) -> int | None:
    """Estimate the memory that the model takes; without torch."""
    from gateway_hf.memory import estimate as from_files  # noqa: PLC0415 - only where memory is bounded

    return from_files(settings)


plugin = Plugin(Settings, build, isolated=True, needs_network=is_remote, cache_folder=cache_folder, estimate=estimate)
