"""What a loaded model can be asked for: its card."""

import hashlib
from pathlib import Path

from msgspec import Struct

from gateway.engine import Capability, ModelCard, Sampling
from gateway_llamacpp.gguf_header import GgufHeader
from gateway_llamacpp.model_file import ModelFile
from gateway_llamacpp.settings import Settings
from gateway_llamacpp.vocabulary import GgufVocabulary

_CAPABILITIES = frozenset(
    {
        Capability.COMPLETION,
        Capability.TOKENS,
        Capability.TOKEN_COUNT,
        Capability.JSON_SCHEMA,
        Capability.JSON_OBJECT,
        Capability.REGEX,
        Capability.CHOICE,
        Capability.GRAMMAR,
        Capability.MAX_TOKENS,
        Capability.MAX_LENGTH,
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
        Capability.INCLUDE_STOP_STR_IN_OUTPUT,
        Capability.IGNORE_EOS,
    }
)
TEMPLATE = "tokenizer.chat_template"
# Where the bytes of each token are known.
_OF_TOKENS = frozenset(
    {
        Capability.TOKENIZE,
        Capability.TRUNCATION_SIDE,
        Capability.STOP_TOKEN_IDS,
        Capability.TOKEN_IDS,
        Capability.LOGPROBS,
    }
)
_CHAT = frozenset({Capability.CHAT, Capability.CONTINUE_FINAL, Capability.TEMPLATE_ARGUMENTS})
_CALLS = frozenset({Capability.TOOLS, Capability.PARALLEL_TOOL_CALLS})


class SamplingParams(Struct, frozen=True):
    """How the server draws where nothing else is asked for."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float


class ServerDefaults(Struct, frozen=True):
    """What the server says of a place: its tokens, and how it draws."""

    n_ctx: int
    params: SamplingParams


class TemplateCaps(Struct, frozen=True):
    """Whether the model's template has a place for tools, and for calls of them."""

    supports_tools: bool = False
    supports_tool_calls: bool = False


class ServerProps(Struct, frozen=True):
    """What the server says of itself, and whether the template can be told to think, which it does not say."""

    default_generation_settings: ServerDefaults
    chat_template_caps: TemplateCaps = TemplateCaps()
    may_think: bool = False
    build_info: str = ""
    model_ftype: str = ""


def card_of(
    settings: Settings, model: ModelFile, header: GgufHeader, vocabulary: GgufVocabulary, props: ServerProps
) -> ModelCard:
    """Return the card of a model that `llama-server` has loaded."""
    calls = props.chat_template_caps.supports_tools and props.chat_template_caps.supports_tool_calls
    capabilities = _CAPABILITIES | (_OF_TOKENS if vocabulary.is_known else frozenset())
    if header.text(TEMPLATE):
        capabilities |= _CHAT | (_CALLS if calls else frozenset())
        capabilities |= {Capability.REASONING} if props.may_think else frozenset()
    context = props.default_generation_settings.n_ctx
    return ModelCard(
        name=model.name,
        aliases=model.aliases,
        context_window=context,
        capabilities=capabilities,
        places=settings.places,
        cache_tokens=settings.places * context,
        vocabulary=vocabulary.size,
        fingerprint=_fingerprint(settings, model.path, header, props),
        tools="llama-server" if Capability.TOOLS in capabilities else "",
        device="gpu" if settings.gpu_layers else "cpu",
        dtype=props.model_ftype,
        defaults=_defaults(model.defaults, props.default_generation_settings.params),
        note=f"a GGUF file{f' of {props.model_ftype} weights' if props.model_ftype else ''}, run by llama.cpp",
    )


def _fingerprint(settings: Settings, path: Path, header: GgufHeader, props: ServerProps) -> str:
    """Hash what the answers depend on. Of the weights it is their size and age: to read them all would take minutes."""
    status = path.stat()
    known = (header.digest, status.st_size, status.st_mtime_ns, props.build_info, repr(settings))
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def _defaults(own: Sampling, params: SamplingParams) -> Sampling:
    if own.temperature is not None:
        return own
    return Sampling(
        temperature=round(params.temperature, 6),
        top_p=round(params.top_p, 6),
        top_k=params.top_k,
        min_p=round(params.min_p, 6),
    )
