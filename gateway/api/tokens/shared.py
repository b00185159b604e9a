"""Fields that the bodies of these routes share."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from gateway.api.http.unknown_fields import ApiBody
from gateway.api.openai.messages import InputMessage
from gateway.api.openai.tools import ToolMode, Tools
from gateway.api.reference.examples import CONVERSATION
from gateway.api.reference.fields import AskedModel

Messages = Annotated[
    tuple[InputMessage, ...],
    Meta(min_length=1, max_length=2_048, description="A conversation.", examples=[CONVERSATION]),
]


class ConversationBody(ApiBody, frozen=True, kw_only=True):
    """A conversation and how its template is applied."""

    generates: ClassVar[bool] = False

    model: AskedModel = None
    tools: Tools = None
    tool_choice: ToolMode = None
    add_generation_prompt: Annotated[
        bool | None,
        Meta(
            description="Whether the template opens a turn for the answer; not with `continue_final_message`. Left out:"
            " true, unless the last message is continued."
        ),
    ] = None
    continue_final_message: Annotated[
        bool | None, Meta(description="Leave the last message, the assistant's, open. Left out: false.")
    ] = None
    chat_template_kwargs: Annotated[
        dict[str, Any] | None,
        Meta(
            description="Further variables of the chat template. Left out: none.", examples=[{"enable_thinking": False}]
        ),
    ] = None
