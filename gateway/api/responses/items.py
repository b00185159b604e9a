"""Items: what a conversation of `/v1/responses` is made of, as it is sent and as it is answered."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from gateway.api.reference.examples import QUESTION
from gateway.api.reference.fields import Elsewhere, NoEffect

ItemStatus = Annotated[
    Literal["in_progress", "completed", "incomplete"], Meta(description="Whether it is whole.", examples=["completed"])
]
# "Hm."
_SEALED = "gw1.5EL_b5k2zqUMoQYYxHQytEhtLg=="
_ID = Annotated[str | None, Meta(description="Its id, as an answer gave it. Left out: a new one.", examples=["msg_1"])]


class ItemPart(Struct, frozen=True, kw_only=True):
    """A part of a message, or of a thought."""

    type: Annotated[
        str,
        Meta(
            description="`input_text` as users say it, `output_text` and `refusal` as assistants do; `reasoning_text`"
            " and `summary_text` in a thought. Others are refused.",
            examples=["input_text"],
        ),
    ]
    text: Annotated[str | None, Meta(description="The text.", examples=[QUESTION])] = None
    refusal: Annotated[str | None, Meta(description="The text of a refusal.", examples=["I cannot."])] = None
    annotations: NoEffect = None
    logprobs: NoEffect = None
    parsed: NoEffect = None
    prompt_cache_breakpoint: NoEffect = None
    detail: Elsewhere = None
    file_data: Elsewhere = None
    file_id: Elsewhere = None
    file_url: Elsewhere = None
    filename: Elsewhere = None
    image_url: Elsewhere = None
    input_audio: Elsewhere = None


class InputItem(Struct, frozen=True, kw_only=True):
    """An item of a conversation: a message, a call of a function, what came of it, or a thought."""

    type: Annotated[
        str,
        Meta(
            description="`message`, `function_call`, `function_call_output`, `reasoning`, or"
            " `item_reference`, which stands for an item of a stored response. Others are refused.",
            examples=["message"],
        ),
    ] = "message"
    id: _ID = None
    role: Annotated[
        Literal["user", "assistant", "system", "developer"] | None,
        Meta(description="The speaker of a message; `developer` is another word for `system`.", examples=["user"]),
    ] = None
    content: Annotated[
        str | tuple[ItemPart, ...] | None, Meta(description="What a message or a thought says.", examples=[QUESTION])
    ] = None
    call_id: Annotated[str | None, Meta(description="The call that this is, or answers.", examples=["call_1"])] = None
    name: Annotated[str | None, Meta(description="The function that is called.", examples=["get_weather"])] = None
    arguments: Annotated[
        str | None, Meta(description="What it is called with, JSON text.", examples=['{"city":"Paris"}'])
    ] = None
    output: Annotated[
        str | tuple[ItemPart, ...] | None, Meta(description="What came of a call, as text.", examples=["18 degrees"])
    ] = None
    summary: Annotated[
        tuple[ItemPart, ...] | None,
        Meta(description="A thought in short; taken where there is no other.", examples=[[]]),
    ] = None
    encrypted_content: Annotated[
        str | None,
        Meta(
            description="A thought in the one word that an answer gave for it; taken where there is no `content`."
            " That of another server is not read.",
            examples=[_SEALED],
        ),
    ] = None
    parsed_arguments: NoEffect = None
    phase: NoEffect = None
    is_async: NoEffect = field(name="async", default=None)
    status: Annotated[ItemStatus | None, Meta(description="Not looked at.", examples=["completed"])] = None
    caller: NoEffect = None
    namespace: Elsewhere = None


class PossibleToken(Struct, frozen=True):
    """A token that was possible."""

    token: Annotated[str, Meta(description="Its text.", examples=[" Paris"])]
    bytes: Annotated[list[int], Meta(description="Its bytes in UTF-8; none where they are not known.", examples=[[80]])]
    logprob: Annotated[float, Meta(description="Its natural log-probability.", examples=[-0.1])]


class ScoredToken(PossibleToken, frozen=True):
    """A token, and what was possible in its place."""

    top_logprobs: Annotated[
        list[PossibleToken], Meta(description="The likeliest in its place, as many as were asked for.", examples=[[]])
    ]


NO_SCORES = Raw(b"[]")


def no_scores() -> Raw:
    """Return the scores of no token. A default that is a value would have to stand in the JSON Schema."""
    return NO_SCORES


# Encoded once, as a stream's deltas need them, and told again in the part, the item and the response.
TokenScores = Annotated[
    Raw,
    Meta(
        description="How likely each token was, where that was asked for; else empty.",
        examples=[[]],
        extra_json_schema={"type": "array", "items": {"$ref": "#/components/schemas/ScoredToken"}},
    ),
]


class OutputText(Struct, frozen=True, tag="output_text"):
    """A run of text."""

    text: Annotated[str, Meta(description="The text.", examples=["Paris."])]
    annotations: Annotated[list[Any], Meta(description="Always empty: nothing is cited.", examples=[[]])] = []
    logprobs: TokenScores = field(default_factory=no_scores)


class OutputMessage(Struct, frozen=True, tag="message"):
    """What the model says."""

    id: Annotated[str, Meta(description="Its id.", examples=["msg_01KDVXK0M4Q2E6S9ZB3H7TJN5R_0"])]
    status: ItemStatus
    content: Annotated[
        list[OutputText],
        Meta(
            description="The text, once it has begun.",
            examples=[[{"type": "output_text", "text": "Paris.", "annotations": [], "logprobs": []}]],
        ),
    ]
    role: Annotated[Literal["assistant"], Meta(description="Always `assistant`.", examples=["assistant"])] = "assistant"


class ThoughtText(Struct, frozen=True, tag="reasoning_text"):
    """A run of thought."""

    text: Annotated[str, Meta(description="The thought.", examples=["The question is about geography."])]


class ReasoningItem(Struct, frozen=True, tag="reasoning"):
    """What the model thinks before it answers."""

    id: Annotated[str, Meta(description="Its id.", examples=["rs_01KDVXK0M4Q2E6S9ZB3H7TJN5R_0"])]
    status: ItemStatus
    content: Annotated[
        list[ThoughtText],
        Meta(description="The thought, once it has begun.", examples=[[{"type": "reasoning_text", "text": "Hm."}]]),
    ]
    summary: Annotated[list[Any], Meta(description="Always empty: the thought itself is told.", examples=[[]])] = []
    encrypted_content: Annotated[
        str | UnsetType,
        Meta(
            description="The thought in one word, which stands for its `content` where it is sent back; only where"
            " `reasoning.encrypted_content` was included, and once it is over.",
            examples=[_SEALED],
        ),
    ] = UNSET


class FunctionCallItem(Struct, frozen=True, tag="function_call"):
    """A call of a function."""

    id: Annotated[str, Meta(description="Its id.", examples=["fc_01KDVXK0M4Q2E6S9ZB3H7TJN5R_0"])]
    call_id: Annotated[str, Meta(description="The id for its result.", examples=["call_1"])]
    name: Annotated[str, Meta(description="The function.", examples=["get_weather"])]
    arguments: Annotated[str, Meta(description="JSON text, as the model wrote it.", examples=['{"city":"Paris"}'])]
    status: ItemStatus


OutputItem = OutputMessage | ReasoningItem | FunctionCallItem
