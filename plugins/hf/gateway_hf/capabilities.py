"""What a loaded model can be asked for: its card."""

from gateway.engine import Capability, ModelCard
from gateway_hf.loading.weights import LoadedModel
from gateway_hf.settings import Settings
from gateway_hf.tools.plan import capabilities_of

_CAPABILITIES = frozenset(
    {
        Capability.COMPLETION,
        Capability.TOKENS,
        Capability.TOKEN_COUNT,
        Capability.TOKENIZE,
        Capability.TRUNCATION_SIDE,
        Capability.TOKENIZER_INFO,
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
        vocabulary=loaded.vocabulary,
        fingerprint=loaded.fingerprint,
        device=loaded.device,
        dtype=loaded.dtype,
        defaults=loaded.defaults,
        note=loaded.note,
        tools=text.tools.form.name if Capability.TOOLS in capabilities else "",
    )
