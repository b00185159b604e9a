"""Messages and their content blocks in Anthropic's dialect."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.api.reference.examples import QUESTION
from gateway.api.reference.fields import Elsewhere, NoEffect

_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

CacheControl = Annotated[
    dict[str, Any] | None,
    Meta(
        description="Taken, and without effect: what prompts have in common is cached anyway.",
        examples=[{"type": "ephemeral"}],
    ),
]


class TextBlock(Struct, frozen=True, tag="text"):
    """A run of text."""

    text: Annotated[str, Meta(description="The text.", examples=[QUESTION])]
    cache_control: CacheControl = None
    citations: NoEffect = None
    parsed_output: NoEffect = None


class SystemBlock(Struct, frozen=True):
    """A run of text in the system prompt, where blocks are of one kind."""

    type: Annotated[Literal["text"], Meta(description="Always `text`.", examples=["text"])]
    text: Annotated[str, Meta(description="The text.", examples=["Be brief."])]
    cache_control: CacheControl = None
    citations: NoEffect = None


class Base64Source(Struct, frozen=True, tag="base64"):
    """A file's bytes, written in base64."""

    media_type: Annotated[str, Meta(description="What kind of file.", examples=["image/png"])]
    data: Annotated[
        bytes,
        Meta(description="The bytes.", examples=["iVBORw0KGgo="], extra_json_schema={"pattern": _BASE64}),
    ]


class UrlSource(Struct, frozen=True, tag="url"):
    """A file somewhere else; refused, for nothing is fetched here."""

    url: Annotated[str, Meta(description="Where it is.", examples=["https://example.com/cat.png"])]


class ImageBlock(Struct, frozen=True, tag="image"):
    """An image."""

    source: Annotated[
        Base64Source | UrlSource,
        Meta(
            description="The file.",
            examples=[{"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}],
        ),
    ]
    cache_control: CacheControl = None
    transformations: Elsewhere = None


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    """A thought of an earlier turn; the model is told where its template has a place for it."""

    thinking: Annotated[str, Meta(description="The thought.", examples=["The question is about geography."])]
    signature: Annotated[
        str, Meta(description="As it came; one of ours has to be that of the thought.", examples=[""])
    ] = ""


class RedactedThinkingBlock(Struct, frozen=True, tag="redacted_thinking"):
    """A thought that cannot be read, and is not shown again."""

    data: Annotated[str, Meta(description="Not looked at.", examples=["EmwKAhgB"])]


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """A call that the model made."""

    id: Annotated[str, Meta(description="The call's id.", examples=["toolu_1"])]
    name: Annotated[str, Meta(description="The tool's name.", examples=["get_weather"])]
    input: Annotated[dict[str, Any], Meta(description="What it was called with.", examples=[{"city": "Paris"}])]
    cache_control: CacheControl = None
    caller: NoEffect = None
    toolset_name: NoEffect = None


class ToolResultBlock(Struct, frozen=True, tag="tool_result"):
    """The result of a tool call."""

    tool_use_id: Annotated[str, Meta(description="The id of the call.", examples=["toolu_1"])]
    content: Annotated[
        str | tuple[TextBlock | ImageBlock, ...], Meta(description="The answer, as text.", examples=["18 degrees"])
    ] = ""
    is_error: Annotated[bool, Meta(description="Whether the tool failed.")] = False
    cache_control: CacheControl = None
    toolset_name: NoEffect = None


Block = TextBlock | ImageBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class MessageParam(Struct, frozen=True):
    """One turn of the conversation; turns of one role in a row are one turn."""

    role: Annotated[Literal["system", "user", "assistant"], Meta(description="Who said it.", examples=["user"])]
    content: Annotated[str | tuple[Block, ...], Meta(description="What was said.", examples=[QUESTION])]
