"""What a loaded model can be asked for: its card, and those of its adapters."""

import hashlib
import logging

from msgspec import structs

from gateway.engine import Capability, ModelCard
from gateway_hf.constrain.constraints import Constraints
from gateway_hf.constrain.jobs import CompileBudget, Nursing
from gateway_hf.constrain.vocabulary import UnconstrainableError
from gateway_hf.constrain.workers import Workers
from gateway_hf.loading.weights import LoadedModel
from gateway_hf.settings import Settings
from gateway_hf.tools.plan import capabilities_of

_log = logging.getLogger("gateway_hf")

_CAPABILITIES = frozenset(
    {
        Capability.COMPLETION,
        Capability.TOKENS,
        Capability.TOKEN_COUNT,
        Capability.TOKENIZE,
        Capability.TRUNCATION_SIDE,
        Capability.TOKENIZER_INFO,
        Capability.STANDBY,
        Capability.MAX_TOKENS,
        Capability.MAX_LENGTH,
        Capability.MIN_TOKENS,
        Capability.TEMPERATURE,
        Capability.TOP_P,
        Capability.TOP_K,
        Capability.MIN_P,
        Capability.REPETITION_PENALTY,
        Capability.PRESENCE_PENALTY,
        Capability.FREQUENCY_PENALTY,
        Capability.LOGIT_BIAS,
        Capability.SEED,
        Capability.STOP,
        Capability.STOP_TOKEN_IDS,
        Capability.INCLUDE_STOP_STR_IN_OUTPUT,
        Capability.ALLOWED_TOKEN_IDS,
        Capability.BAD_WORDS,
        Capability.TOKEN_IDS,
        Capability.IGNORE_EOS,
        Capability.LOGPROBS,
        Capability.PROMPT_LOGPROBS,
    }
)

_CHAT = {Capability.CHAT, Capability.CONTINUE_FINAL, Capability.TEMPLATE_ARGUMENTS}

_CONSTRAINTS = {
    Capability.JSON_SCHEMA,
    Capability.JSON_OBJECT,
    Capability.REGEX,
    Capability.CHOICE,
    Capability.GRAMMAR,
}


def card_of(settings: Settings, loaded: LoadedModel, *, constrains: bool) -> ModelCard:
    """Return the card of a loaded model; `constrains` says whether its answers can be constrained."""
    text = loaded.text
    capabilities = _CAPABILITIES | (_CONSTRAINTS if constrains else set())
    if text.has_chat:
        capabilities |= _CHAT | capabilities_of(text, constrains=constrains)
    return ModelCard(
        name=loaded.name,
        aliases=loaded.aliases,
        context_window=loaded.context_window,
        capabilities=capabilities,
        places=settings.places,
        cache_tokens=loaded.blocks.count * loaded.blocks.size,
        block_tokens=loaded.blocks.size,
        vocabulary=loaded.vocabulary,
        fingerprint=loaded.fingerprint,
        build=loaded.build,
        device=loaded.device,
        dtype=loaded.dtype,
        defaults=loaded.defaults,
        note=loaded.note,
        tools=text.tools.form.name if Capability.TOOLS in capabilities else "",
        root=loaded.root,
    )


def adapter_cards(card: ModelCard, loaded: LoadedModel) -> tuple[ModelCard, ...]:
    """Return the cards of a loaded model's adapters, in the order of their numbers; `card` is the model's own."""
    return tuple(
        structs.replace(
            card,
            name=adapter.name,
            aliases=(),
            fingerprint=hashlib.sha256(f"{card.fingerprint}\0{adapter.digest}".encode()).hexdigest(),
            build=card.build | {"adapter": adapter.digest[:12]},
            parent=card.name,
            root=adapter.root,
        )
        for adapter in loaded.adapters
    )


def constraints_of(settings: Settings, loaded: LoadedModel) -> Constraints | None:
    """Make ready to constrain answers, where the tokenizer is one that this is possible with."""
    try:
        vocabulary = loaded.text.vocabulary(loaded.eos_ids)
    except UnconstrainableError as error:
        _log.warning("no answer of this model can be held to a schema, a regex, a choice or a grammar: %s", error)
        return None
    # A model that reads several tokens in another way than one by one would read all anew for those that are forced.
    forcing = loaded.guessing.most > 0
    budget = CompileBudget(settings.compile_seconds, settings.compile_mib)
    workers = Workers(Nursing(vocabulary.written, vocabulary.size, vocabulary.ends, budget))
    return Constraints(vocabulary.tokens, loaded.eos_ids, workers, forcing=forcing)
