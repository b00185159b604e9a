"""The gateway's own dialect: `/v1/generate`."""

import msgspec

from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.exchange.route import RouteDoc, generation
from gateway.api.native.operation import OPERATION
from gateway.api.native.render import GenerateRendering
from gateway.api.native.schema import GenerateBody, GenerateReply, LastFrame, TextFrame
from gateway.api.native.translate import reword, to_prompts, to_timeouts

_TAG = "generate"

_GENERATE = Endpoint(
    decoder=msgspec.json.Decoder(GenerateBody),
    to_prompts=to_prompts,
    to_rendering=GenerateRendering,
    reword=reword,
    to_timeouts=to_timeouts,
)

DIALECT = Dialect(
    name=_TAG,
    about="Go on with a text, or answer a conversation. A sampling parameter that is left out is what the service"
    " is configured with, else what the model's own generation config says, else what its description says.",
    routes=generation(
        "/v1/generate",
        _GENERATE,
        RouteDoc(
            name="generate",
            tag=_TAG,
            summary="Generate",
            description="Go on with a text, or answer a conversation; whole, or as Server-Sent Events.",
            operation=OPERATION,
        ),
    ),
    schemas=(GenerateBody, GenerateReply, TextFrame, LastFrame),
)
