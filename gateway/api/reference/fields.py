"""Sampling parameters that have one name in every dialect, with their bounds; `None` if left out."""

from typing import Annotated, Any

from msgspec import Meta

from gateway.api.reference.examples import MODEL

Json = dict[str, Any] | list[Any] | str | float | int | bool | None
Elsewhere = Annotated[
    Json,
    Meta(
        description="Not done here: refused by its name, unless it asks for what is done anyway. Left out: nothing.",
        examples=[None],
    ),
]
NoEffect = Annotated[
    Json,
    Meta(description="Taken, and without effect: no model is told. Left out: nothing.", examples=[None]),
]
Label = Annotated[str, Meta(max_length=512)]
User = Annotated[
    Label | None,
    Meta(description="The caller's own user. Taken; nothing here depends on it, and it is not kept.", examples=["u1"]),
]
AskedModel = Annotated[
    Annotated[str, Meta(min_length=1, max_length=512)] | None,
    Meta(
        description="A model's name, its full id or its engine's name; left out: the first engine's model.",
        examples=[MODEL],
    ),
]
ToolName = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$", description="The function's name.", examples=["get_weather"])
]
StopText = Annotated[str, Meta(min_length=1, max_length=512)]
Temperature = Annotated[
    Annotated[float, Meta(ge=0, le=2)] | None,
    Meta(description="0 always takes the likeliest token; higher is more varied. Left out: 1.", examples=[0]),
]
TopP = Annotated[
    Annotated[float, Meta(ge=0, le=1)] | None,
    Meta(
        description="Draw from the likeliest tokens that have this probability together; of 0, the likeliest one. Left"
        " out: 1, off.",
        examples=[0.9],
    ),
]
MinP = Annotated[
    Annotated[float, Meta(ge=0, le=1)] | None,
    Meta(
        description="Drop tokens less likely than this share of the likeliest one's probability. Left out: 0, off.",
        examples=[0.05],
    ),
]
RepetitionPenalty = Annotated[
    Annotated[float, Meta(ge=0.001, le=10)] | None,
    Meta(
        description="Above 1, tokens of the prompt and the answer are less likely to come again. Left out: 1, off.",
        examples=[1.1],
    ),
]
PresencePenalty = Annotated[
    Annotated[float, Meta(ge=-2, le=2)] | None,
    Meta(
        description="Taken from the logit of every token that the answer holds already. Left out: 0.",
        examples=[0.5],
    ),
]
FrequencyPenalty = Annotated[
    Annotated[float, Meta(ge=-2, le=2)] | None,
    Meta(
        description="Taken from a token's logit once for every time that the answer holds it. Left out: 0.",
        examples=[0.5],
    ),
]
LogitBias = Annotated[
    Annotated[
        dict[Annotated[int, Meta(ge=0, le=2**31)], Annotated[float, Meta(ge=-100, le=100)]],
        Meta(max_length=1_024, extra_json_schema={"propertyNames": {"pattern": "^[0-9]{1,10}$"}}),
    ]
    | None,
    Meta(description="Token ids, and what is added to their logits. Left out: nothing.", examples=[{"50": -100}]),
]
Seed = Annotated[
    Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None,
    Meta(
        description="The same seed gives the same answer, whatever else runs. Left out: another one each time.",
        examples=[7],
    ),
]
Stop = Annotated[
    StopText | Annotated[tuple[StopText, ...], Meta(max_length=16)] | None,
    Meta(
        description="Up to 16 texts that end the answer; they are cut off. Left out: none.",
        examples=["\n", [".", "!"]],
    ),
]
StopTokenIds = Annotated[
    Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(max_length=1_024)] | None,
    Meta(description="Tokens that end the answer; they are not shown. Left out: none.", examples=[[2]]),
]
IncludeStop = Annotated[
    bool | None,
    Meta(description="Show the stop text, or the stop token's, at the end of the answer. Left out: false, cut off."),
]
AllowedTokenIds = Annotated[
    Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(min_length=1, max_length=65_536)] | None,
    Meta(
        description="Tokens that may be drawn, and no others; the end of sequence too only if it is among them. Left"
        " out: all.",
        examples=[[504, 3575]],
    ),
]
BadWords = Annotated[
    Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=512)], ...], Meta(max_length=1_024)] | None,
    Meta(
        description="Words that are not to come, 16,384 characters of all together: the last token of one is never"
        " drawn behind its others, be it at the beginning of a text or behind a blank. Spelled with other tokens a word"
        " may come all the same. Left out: none.",
        examples=[["very"]],
    ),
]
IgnoreEos = Annotated[
    bool | None, Meta(description="Go on where the model would end, up to the number of tokens. Left out: false.")
]
