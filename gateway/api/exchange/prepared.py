"""From a body to what answers it, in any dialect: the steps that a request over HTTP and a line of a batch share."""

from collections.abc import Mapping
from functools import partial
from typing import Generic

from msgspec import Struct, structs

from gateway.admission import Standby
from gateway.api.exchange.asked import Asking, Prompts
from gateway.api.exchange.dialect import B, Endpoint, Rendering
from gateway.api.exchange.keeper import AnswerKeeper
from gateway.api.exchange.run import Run
from gateway.api.exchange.stored import stored_whole
from gateway.api.http.headers import read_timeouts, wants_updates
from gateway.auth import Caller
from gateway.cache import cache_policy
from gateway.engine import ModelCard
from gateway.flow.offload import offload_large
from gateway.hosting.route import Target
from gateway.inflight import Options
from gateway.service import Inference
from gateway.telemetry import request_id


class AskedBody(Struct, Generic[B], frozen=True):
    """A body with its weight, the head that came with it, and how its answer gives way where no client waits for it."""

    body: B
    weight: int
    head: Mapping[str, str]
    standby: Standby | None = None


class Prepared(Struct, Generic[B], frozen=True):
    """A run that is ready to begin, with what renders and stores its answer, and the body with what it refers to."""

    run: Run
    rendering: Rendering
    keeper: AnswerKeeper[B] | None
    body: B
    target: Target
    prompts: Prompts
    options: Options

    @property
    def card(self) -> ModelCard:
        """The card of the model."""
        return self.target.card

    async def whole(self) -> tuple[bytes, dict[str, str]]:
        """Return the whole answer, and its headers."""
        if self.keeper is None:
            return await self.run.whole(self.rendering), self.run.headers
        reply, stored = await stored_whole(self.run, self.rendering, self.keeper)
        return reply, self.run.headers | stored


async def prepare(inference: Inference, endpoint: Endpoint[B], caller: Caller, asked: AskedBody[B]) -> Prepared[B]:
    """Find the model and translate the body; raise `Problem`, or `EngineError` in the engine's words for fields."""
    config, body, own_id = inference.config, asked.body, request_id.get()
    target = inference.find(body.model, caller)
    asking = Asking(target.card, config, own_id, caller.priority)
    keeper = endpoint.to_keeper(body, own_id, inference.store.of(caller.id))
    if keeper is not None:
        asking = structs.replace(asking, past=await keeper.recall(config.server.max_body_bytes))
        body = keeper.body
    prompts = await offload_large(asked.weight, partial(endpoint.to_prompts, body, asking))
    target = inference.choose(target, prompts.requests)
    timeouts = read_timeouts(asked.head, endpoint.to_timeouts(body))
    policy = cache_policy(asked.head.get("cache-control", ""))
    options = Options(timeouts, policy, wants_updates(asked.head), prompts.shorten, asked.standby)
    inference.note_asked(target.card.name, len(prompts.requests), prompts.n)
    run = Run(inference, caller, target, prompts, options)
    rendering = endpoint.to_rendering(body, target.card, own_id)
    return Prepared(run, rendering, keeper, body, target, prompts, options)
