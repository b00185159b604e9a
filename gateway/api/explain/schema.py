"""The body and the reply of the route that explains a request."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.api.reference.examples import CONVERSATION, MODEL, REQUEST_ID

ParameterSource = Literal["request", "gateway", "model"]


class ExplainBody(Struct, frozen=True, kw_only=True):
    """A request to explain, as a line of a batch has it."""

    url: Annotated[
        str, Meta(description="The path that the request is for.", max_length=256, examples=["/v1/chat/completions"])
    ]
    body: Annotated[
        Raw,
        Meta(
            description="Its body, as that path takes it.",
            extra_json_schema={"type": "object"},
            examples=[{"messages": CONVERSATION, "max_tokens": 16}],
        ),
    ]


class ExplainedRoute(Struct, frozen=True, kw_only=True):
    """How an engine of a route was chosen."""

    name: Annotated[str, Meta(description="The route's name.", examples=["gpt-4o-mini"])]
    strategy: Annotated[str, Meta(description="`routes.NAME.strategy`.", examples=["ordered"])]
    engines: Annotated[
        tuple[str, ...],
        Meta(description="Its engines, in the order of the tries.", examples=[["default"]]),
    ]
    fallback: Annotated[
        str | None,
        Meta(description="Why another one was passed over, as an error's code.", examples=["engine_unavailable"]),
    ]


class ExplainedPrompt(Struct, frozen=True, kw_only=True):
    """A prompt as the model would read it; what its engine does not tell is null."""

    text: Annotated[
        str | None,
        Meta(
            description="The prompt as the template writes it.",
            examples=["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"],
        ),
    ]
    tokens: Annotated[int | None, Meta(description="How many tokens it has.", examples=[36])]
    ids: Annotated[
        tuple[int, ...] | None, Meta(description="Its tokens, the first 4,096 of them.", examples=[[1, 4093, 198]])
    ]
    cached_tokens: Annotated[
        int | None, Meta(description="How many of them the engine's cache has now.", examples=[16])
    ] = None
    max_tokens: Annotated[int | None, Meta(description="The most tokens that the answer may have.", examples=[128])] = (
        None
    )
    answer_cache: Annotated[
        Literal["hit", "coalesced", "miss", "none"],
        Meta(
            description="What the cache of answers has: `hit`, `coalesced` while it is made for another request,"
            " `miss`, or `none` where the cache would have no part in it (it is off, the answer is drawn at random, or"
            " the request wants none of it)."
        ),
    ] = "none"


class ExplainedParameter(Struct, frozen=True):
    """What a parameter becomes."""

    value: Annotated[Any, Meta(description="Its value for the engine.", examples=[0.7])]
    source: Annotated[
        ParameterSource,
        Meta(description="Where it is from: the request, this gateway's configuration, or the model."),
    ]


class ExplainedQueue(Struct, frozen=True, kw_only=True):
    """The place that the request would have in line, were it sent now."""

    position: Annotated[int, Meta(description="Its position: 0 where a place is free, 1 is next.", examples=[0])]
    waiting: Annotated[int, Meta(description="Requests that wait.", examples=[0])]
    running: Annotated[int, Meta(description="Requests that have a place.", examples=[2])]
    places: Annotated[int, Meta(description="The places of the model.", examples=[8])]
    seconds: Annotated[
        float | None, Meta(description="The predicted wait; null before anything was measured.", examples=[0.0])
    ]
    refusal: Annotated[
        str | None,
        Meta(description="The code of the error that it would get at once in place of one.", examples=["overloaded"]),
    ]


class ExplainedLimits(Struct, frozen=True, kw_only=True):
    """The limits that hold for the request; null is none."""

    tokens: Annotated[int, Meta(description="What would be reserved of the key's tokens.", examples=[164])]
    requests_per_minute: Annotated[int | None, Meta(description="Of the key.", examples=[60])]
    tokens_per_minute: Annotated[int | None, Meta(description="Of the key.", examples=[100_000])]
    tokens_per_day: Annotated[int | None, Meta(description="Of the key.", examples=[1_000_000])]
    concurrent: Annotated[int | None, Meta(description="Of the key.", examples=[4])]
    context_window: Annotated[int, Meta(description="Of the model, in tokens.", examples=[8_192])]
    seconds: Annotated[float, Meta(description="For all of it.", examples=[600.0])]
    queue_seconds: Annotated[float, Meta(description="In the queue.", examples=[10.0])]
    first_token_seconds: Annotated[float | None, Meta(description="Until the first token.", examples=[30.0])]


class Explanation(Struct, frozen=True, kw_only=True):
    """What would become of a request, were it sent now. Nothing was computed."""

    id: Annotated[str, Meta(description="The id of this question, its `x-request-id`.", examples=[REQUEST_ID])]
    object: Annotated[Literal["explanation"], Meta(description="Always `explanation`.", examples=["explanation"])] = (
        "explanation"
    )
    url: Annotated[str, Meta(description="The path of the request.", examples=["/v1/chat/completions"])]
    model: Annotated[str, Meta(description="The model that would answer.", examples=[MODEL])]
    engine: Annotated[str, Meta(description="Its engine's name in the configuration.", examples=["default"])]
    plugin: Annotated[str, Meta(description="The plugin that the engine is made by.", examples=["hf"])]
    why: Annotated[str, Meta(description="Why this one.", examples=["the request names it"])]
    route: Annotated[
        ExplainedRoute | None,
        Meta(
            description="The route, where the request named one.",
            examples=[{"name": "gpt-4o-mini", "strategy": "ordered", "engines": ["default"], "fallback": None}],
        ),
    ]
    is_loaded: Annotated[
        bool,
        Meta(description="Whether the engine serves now; one that does not is neither asked nor loaded."),
    ]
    prompts: Annotated[
        tuple[ExplainedPrompt, ...], Meta(description="The first 16 prompts, or the texts of a question.")
    ]
    prompts_in_all: Annotated[int, Meta(description="How many there are.", examples=[1])]
    answers: Annotated[int, Meta(description="Answers that would be made to each prompt (`best_of`).", examples=[1])]
    parameters: Annotated[
        dict[str, ExplainedParameter],
        Meta(
            description="What each parameter becomes, under the name that engines have for it.",
            examples=[{"max_tokens": {"value": 16, "source": "request"}}],
        ),
    ]
    without_effect: Annotated[
        tuple[str, ...], Meta(description="Fields that are taken, and do nothing.", examples=[["user"]])
    ]
    queue: Annotated[ExplainedQueue, Meta(description="Its place in line: of several prompts that of the first.")]
    first_token_seconds: Annotated[
        float | None,
        Meta(description="The predicted time to the first token; null before anything was measured.", examples=[0.4]),
    ]
    limits: Annotated[ExplainedLimits, Meta(description="The limits that hold for it.")]


explain_decoder = msgspec.json.Decoder(ExplainBody)
