"""The gateway's own dialect: `/v1/generate`."""

import msgspec

from gateway.api.exchange.dialect import Dialect, Endpoint
from gateway.api.native.operation import OPERATION
from gateway.api.native.render import GenerateRendering
from gateway.api.native.schema import GenerateBody, GenerateReply, LastFrame, TextFrame
from gateway.api.native.translate import reword, to_prompts, to_timeouts

_GENERATE = Endpoint(
    path="/v1/generate",
    name="generate",
    summary="Generate",
    description="Go on with a text, or answer a conversation; whole, or as Server-Sent Events.",
    operation=OPERATION,
    decoder=msgspec.json.Decoder(GenerateBody),
    to_prompts=to_prompts,
    to_rendering=GenerateRendering,
    reword=reword,
    to_timeouts=to_timeouts,
)

DIALECT = Dialect(
    name="generate",
    about="Go on with a text, or answer a conversation. A sampling parameter that is left out is what the service"
    " is configured with, else what the model's own generation config says, else what its description says.",
    endpoints=(_GENERATE,),
    schemas=(GenerateBody, GenerateReply, TextFrame, LastFrame),
)
