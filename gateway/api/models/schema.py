"""What the routes of the models answer."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.exchange.dialect import Parameters
from gateway.api.reference.examples import MODEL
from gateway.engine import Health

ModelStatus = Literal["loaded", "loading", "unloaded", "failed"]


class LoadShare(Struct, frozen=True):
    """How far the load of a model is."""

    step: Annotated[str, Meta(description="What it is at.", examples=["reading the weights"])]
    share: Annotated[float, Meta(description="The share of the step that is done, from 0 to 1.", examples=[0.4])]


class ModelObject(Struct, frozen=True, kw_only=True):
    """A served model."""

    id: Annotated[str, Meta(description="The name to give as `model`.", examples=[MODEL])]
    object: Annotated[Literal["model"], Meta(description="Always `model`.")] = "model"
    created: Annotated[
        int, Meta(description="When the service started, in seconds since 1970.", examples=[1_767_225_600])
    ]
    owned_by: Annotated[str, Meta(description="Who made the model, where that is known.", examples=["HuggingFaceTB"])]
    aliases: Annotated[
        tuple[str, ...], Meta(description="Other names that it answers to.", examples=[[f"HuggingFaceTB/{MODEL}"]])
    ]
    engine: Annotated[str, Meta(description="The name of the engine that serves it.", examples=["default"])]
    loaded: Annotated[bool, Meta(description="Whether it is in memory.")]
    status: Annotated[
        ModelStatus,
        Meta(
            description="Whether it is `loaded`; `loading`; `unloaded`, and loaded by the next request or by hand; or "
            "`failed`, as its last load did or it did since.",
            examples=["loaded"],
        ),
    ]
    detail: Annotated[str, Meta(description="Why it is not loaded, in one line.", examples=[""])]
    progress: Annotated[
        LoadShare | None,
        Meta(
            description="How far its load is, where its process says so; null otherwise.",
            examples=[{"step": "reading the weights", "share": 0.4}],
        ),
    ]
    size: Annotated[
        int | None,
        Meta(
            description="The bytes of memory that it takes, measured, or would take, estimated from its files; null "
            "where that is not known.",
            examples=[734_003_200],
        ),
    ]
    last_used: Annotated[
        int | None,
        Meta(
            description="When a request was last answered by it, or it was loaded, in seconds since 1970; null for "
            "never.",
            examples=[1_767_225_900],
        ),
    ]
    context_window: Annotated[
        int, Meta(description="Tokens that prompt and answer may have together.", examples=[2_048])
    ]
    capabilities: Annotated[
        tuple[str, ...], Meta(description="What it can be asked for.", examples=[["chat", "completion", "temperature"]])
    ]
    device: Annotated[str, Meta(description="What it runs on.", examples=["cpu"])]
    dtype: Annotated[str, Meta(description="The type of its numbers.", examples=["bfloat16"])]
    system_fingerprint: Annotated[
        str | None,
        Meta(
            description="What answers have as `system_fingerprint`: a digest of its `build`; null where that is not "
            "known.",
            examples=["fp_53e79feb78"],
        ),
    ]
    build: Annotated[
        dict[str, str],
        Meta(
            description="What its answers depend on, by part: weights, tokenizer, versions, number format and kernels.",
            examples=[{"weights": "4f0a6f3c2b1d", "dtype": "bfloat16", "kernels": "9c1e5a7702bd", "torch": "2.9.1"}],
        ),
    ]
    note: Annotated[str, Meta(description="What else there is to know of it.", examples=["4-bit weights"])]
    root: Annotated[
        str,
        Meta(description="The name that its weights came under: a full id, or an adapter's folder.", examples=[MODEL]),
    ]
    parent: Annotated[
        str | None,
        Meta(description="The model that it is with an adapter; `null` for one of its own.", examples=[None]),
    ]


class ModelList(Struct, frozen=True):
    """The served models, in the shape that OpenAI's clients read."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")]
    data: Annotated[list[ModelObject], Meta(description="The models.")]


class ModelState(Struct, frozen=True):
    """A model after it was loaded or unloaded."""

    model: Annotated[str, Meta(description="The model's own name.", examples=[MODEL])]
    engine: Annotated[str, Meta(description="The name of the engine that serves it.", examples=["default"])]
    status: Health
    loaded: Annotated[bool, Meta(description="Whether it is in memory now.")]
    seconds: Annotated[float, Meta(description="How long it took.", examples=[1.234])] | UnsetType = UNSET


class ModelParameters(Struct, frozen=True, kw_only=True):
    """What a model honours."""

    id: Annotated[str, Meta(description="The model's own name.", examples=["smollm2-135m-instruct"])]
    object: Annotated[Literal["model.capabilities"], Meta(description="Always `model.capabilities`.")] = (
        "model.capabilities"
    )
    capabilities: Annotated[
        tuple[str, ...], Meta(description="What it can be asked for.", examples=[["chat", "temperature"]])
    ]
    routes: Annotated[
        dict[str, Parameters],
        Meta(
            description="The parameters, by the route.",
            examples=[{"completions": {"honoured": ["prompt"], "taken": ["user"], "refused": ["suffix"]}}],
        ),
    ]


class Version(Struct, frozen=True):
    """Which release answers."""

    version: Annotated[str, Meta(description="The release.", examples=["1.0.0"])]
