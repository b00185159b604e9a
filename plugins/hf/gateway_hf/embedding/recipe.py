"""How a model makes one vector of a text, as its sentence-transformers files say it."""

from pathlib import Path
from typing import Any, NamedTuple

from gateway.engine import LoadFailed
from gateway_hf.loading import checks as gate
from gateway_hf.loading.sources import Source

# The names of sentence-transformers' pooling modes, old and new, in the order in which it joins them -> ours.
_POOLINGS = {
    "cls_token": "first",
    "cls": "first",
    "max_tokens": "max",
    "max": "max",
    "mean_tokens": "mean",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean_tokens": "weighted",
    "weightedmean": "weighted",
    "lasttoken": "last",
}
_MODE = "pooling_mode_"
# What a prompt for a role is called, the likeliest first.
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


class Dense(NamedTuple):
    """A linear layer behind the pooling: the folder of its weights, and the name of what follows, empty for nothing."""

    folder: Path
    activation: str


class Recipe(NamedTuple):
    """The steps before and behind the model.

    `poolings` are joined in order. `max_tokens` bounds a text, with its special tokens. `prompts` are put before a text
    by their names; without `pools_prompt` their tokens are read, and left out of the vector. `similarity` compares two.
    """

    poolings: tuple[str, ...]
    normalizes: bool = True
    dense: tuple[Dense, ...] = ()
    max_tokens: int | None = None
    lowers: bool = False
    prompts: dict[str, str] = {}  # noqa: RUF012 - it is never changed
    default_prompt: str = ""
    pools_prompt: bool = True
    similarity: str = "cosine"

    def prompt_for(self, role: str | None) -> str:
        """Return what is put before a text in a role: a query, a document, or neither."""
        named = next((self.prompts[name] for name in _PROMPTS.get(role or "", ()) if name in self.prompts), None)
        return self.default_prompt if named is None else named


def read_recipe(source: Source, *, causal: bool) -> Recipe:
    """Read the recipe of a folder; raise `LoadFailed` for a step that is not known here.

    A folder without one gets what most models of its kind were trained for: the mean of all tokens, or the last one's
    state of a `causal` model, normalized.
    """
    if not (source.folder / "modules.json").is_file():
        return Recipe(("last",) if causal else ("mean",))
    steps = _read_steps(source)
    if not steps or steps[0][0] != "Transformer":
        raise LoadFailed(f"the modules.json of the model '{source.name}' does not begin with a Transformer")
    poolings: tuple[str, ...] = ()
    dense: list[Dense] = []
    normalizes, pools_prompt = False, True
    for kind, path in steps[1:]:
        if kind == "Pooling":
            config = _read(path / "config.json", source)
            poolings, pools_prompt = _poolings(config, source), config.get("include_prompt") is not False
        elif kind == "Dense":
            dense.append(Dense(path, str(_read(path / "config.json", source).get("activation_function") or "")))
        elif kind == "Normalize":
            normalizes = True
        else:
            raise LoadFailed(f"the model '{source.name}' has a step '{kind[:60]}', which is not known here")
    if not poolings:
        raise LoadFailed(f"the model '{source.name}' makes no vector of its tokens: it has no Pooling")
    said = _optional(source.folder / "config_sentence_transformers.json", source)
    shape = _optional(steps[0][1] / "sentence_bert_config.json", source)
    prompts = {str(name): text for name, text in (said.get("prompts") or {}).items() if isinstance(text, str)}
    most = shape.get("max_seq_length")
    return Recipe(
        poolings,
        normalizes,
        tuple(dense),
        most if isinstance(most, int) and most > 0 else None,
        shape.get("do_lower_case") is True,
        prompts,
        prompts.get(str(said.get("default_prompt_name")), ""),
        pools_prompt,
        str(said.get("similarity_fn_name") or "cosine"),
    )


def _read_steps(source: Source) -> list[tuple[str, Path]]:
    """Return the kind and the folder of each step; raise `LoadFailed` where one lies outside of the model's."""
    listed = gate.read_list(source.folder / "modules.json", source.name)
    steps: list[tuple[str, Path]] = []
    for step in sorted(listed, key=lambda each: int(each.get("idx", 0))):
        path = (source.folder / str(step.get("path", ""))).resolve()
        if not path.is_relative_to(source.folder.resolve()):
            raise LoadFailed(f"the modules.json of the model '{source.name}' names a folder outside of the model's")
        steps.append((str(step.get("type", "")).rpartition(".")[2], path))
    return steps


def _poolings(config: dict[str, Any], source: Source) -> tuple[str, ...]:
    """Return the modes that are on, in the order in which sentence-transformers joins them."""
    said = config.get("pooling_mode")
    names = said.split("+") if isinstance(said, str) else [*said] if isinstance(said, list) else None
    if names is None:
        names = [key.removeprefix(_MODE) for key, value in config.items() if key.startswith(_MODE) and value is True]
    if unknown := [name for name in names if name not in _POOLINGS]:
        raise LoadFailed(f"the model '{source.name}' pools by '{unknown[0][:60]}', which is not known here")
    return tuple(pooling for name, pooling in _POOLINGS.items() if name in names)


def _read(file: Path, source: Source) -> dict[str, Any]:
    return gate.read_json(file, source.name)


def _optional(file: Path, source: Source) -> dict[str, Any]:
    return _read(file, source) if file.is_file() else {}
