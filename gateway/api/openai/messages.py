"""Conversations in OpenAI's dialect: messages with their parts."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.openai.tools import CalledFunction, FunctionCall
from gateway.api.reference.examples import QUESTION
from gateway.api.reference.fields import Elsewhere, NoEffect

_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_CALLED = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
_CALL = {"id": "call_1", "type": "function", "function": _CALLED}
JsonTree = dict[str, Any]


class ImageUrl(Struct, frozen=True):
    """An image, as a data URL."""

    url: Annotated[
        str,
        Meta(
            description="The image itself: `data:image/png;base64,…`. Nothing is fetched.",
            examples=["data:image/png;base64,iVBORw0KGgo="],
        ),
    ]
    detail: Annotated[
        Literal["auto", "low", "high", "original"] | None,
        Meta(description="How closely to look; the model decides.", examples=["auto"]),
    ] = None


class ContentPart(Struct, frozen=True):
    """A part of a message."""

    type: Annotated[
        Literal["text", "image_url", "refusal", "input_audio", "audio_url", "video_url", "file"],
        Meta(description="What the part is; sound, films and files are refused."),
    ]
    text: Annotated[str | None, Meta(description="The text of a text part.", examples=["What is this?"])] = None
    image_url: Annotated[
        ImageUrl | None,
        Meta(description="The image of an image part.", examples=[{"url": "data:image/png;base64,iVBORw0KGgo="}]),
    ] = None
    refusal: Annotated[str | None, Meta(description="The text of a refusal.", examples=["I cannot."])] = None
    input_audio: Elsewhere = None
    audio_url: Elsewhere = None
    video_url: Elsewhere = None
    file: Elsewhere = None
    cache_control: NoEffect = None
    prompt_cache_breakpoint: NoEffect = None


class InputMessage(Struct, frozen=True):
    """One turn of a conversation."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool", "function"],
        Meta(
            description="Who said it; `developer` is another word for `system`, `function` an older one for `tool`.",
            examples=["user"],
        ),
    ]
    content: Annotated[
        str | tuple[ContentPart, ...] | None,
        Meta(
            description="What was said: a text, or parts, whose texts are joined.",
            examples=[QUESTION, [{"type": "text", "text": "Hello"}]],
        ),
    ] = None
    tool_calls: Annotated[
        tuple[FunctionCall, ...] | None, Meta(description="The assistant's calls.", examples=[[_CALL]])
    ] = None
    tool_call_id: Annotated[
        str | None, Meta(description="The call that a tool's message answers.", examples=["call_1"])
    ] = None
    refusal: Annotated[
        str | None, Meta(description="What the assistant said when it refused.", examples=["I cannot."])
    ] = None
    audio: Elsewhere = None
    function_call: Annotated[
        CalledFunction | None,
        Meta(description="The assistant's call, where it is of `functions`.", examples=[_CALLED]),
    ] = None
    name: Annotated[
        str | None,
        Meta(description="The function whose result this is; of other messages no model is told.", examples=["f"]),
    ] = None
    annotations: NoEffect = None
    cache_control: NoEffect = None
    parsed: NoEffect = None
    reasoning: Annotated[str | None, Meta(description="The same as `reasoning_content`.", examples=["Easy."])] = None
    reasoning_content: Annotated[
        str | None,
        Meta(
            description="What the assistant thought first; a model is told where its template has a place for it.",
            examples=["Easy."],
        ),
    ] = None
