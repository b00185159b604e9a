"""The words that each kind of server takes: one row a server, after its own documentation.

A capability that a row does not list is refused before the server is asked, since servers drop words that they do not
know. Sources: the OpenAI API reference; vLLM's protocol of its OpenAI-compatible server; SGLang's sampling parameters;
`tools/server/README.md` of llama.cpp; `docs/api/openai-compatibility` of Ollama; LM Studio's REST API; TGI's Messages
API.
"""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, structs

from gateway.engine import Capability

C = Capability
_TEXT = frozenset({C.CHAT, C.COMPLETION, C.MAX_TOKENS, C.TEMPERATURE, C.TOP_P, C.SEED, C.STOP})
_PENALTIES = frozenset({C.PRESENCE_PENALTY, C.FREQUENCY_PENALTY})
_COMMON = _TEXT | _PENALTIES
_JSON = frozenset({C.JSON_SCHEMA, C.JSON_OBJECT})
_SHAPES = _JSON | {C.REGEX, C.CHOICE, C.GRAMMAR}
_CALLS = frozenset({C.TOOLS, C.PARALLEL_TOOL_CALLS})
# Asked of a gateway's card, it cannot be said over HTTP in OpenAI's words.
_UNSAID = frozenset({C.MAX_LENGTH})
_VECTORS = frozenset({C.EMBEDDING})

# The words in which a shape other than a JSON Schema is asked for, how a model is told not to think, and whose routes
# answer questions about tokens.
ShapeWords = Literal["documented", "structured_outputs", "guided", "sglang", "llama-server", "tgi"]
ThinkingWords = Literal["", "gateway", "effort", "template"]
TokenWords = Literal["", "vllm", "llama-server"]


class Profile(Struct, frozen=True, kw_only=True):
    """The words of one kind of server.

    `takes` is what its models can be asked for, `chat_only` the part of that which its completions lack. `words` are
    its names for fields of `Sampling` that have another one there, `limit` its name for an answer's length in a
    conversation. Of `tool_choices` the named one is `function`; with `allowed_tools` it takes a list, and
    `strict_tools` holds calls to their schemas. `thoughts` are read in the messages, `salted` takes a salt for its
    prefix cache. `reads` is what its models can be asked for that generate nothing; vectors are told as `base64`, and
    `cuts` says that of a text no more is read than it is told.
    """

    name: str
    takes: frozenset[Capability]
    chat_only: frozenset[Capability] = _CALLS
    words: dict[str, str] = {}
    limit: str = "max_tokens"
    shapes: ShapeWords = "documented"
    thinking: ThinkingWords = ""
    tokens: TokenWords = ""
    tool_choices: frozenset[str] = frozenset({"auto", "none", "required", "function"})
    allowed_tools: bool = False
    strict_tools: bool = False
    thoughts: bool = False
    salted: bool = False
    reads: frozenset[Capability] = _VECTORS
    base64: bool = False
    cuts: bool = False


GATEWAY = Profile(
    name="gateway",
    takes=frozenset(Capability) - _UNSAID,
    words={"token_ids": "return_token_ids"},
    shapes="structured_outputs",
    thinking="gateway",
    tokens="vllm",
    allowed_tools=True,
    strict_tools=True,
    thoughts=True,
    salted=True,
    base64=True,
    cuts=True,
)
OPENAI = Profile(
    name="openai",
    takes=_COMMON | _JSON | _CALLS | {C.TOKENS, C.LOGIT_BIAS, C.LOGPROBS, C.VISION, C.REASONING_EFFORT},
    chat_only=_CALLS | _JSON,
    limit="max_completion_tokens",
    thinking="effort",
    allowed_tools=True,
    strict_tools=True,
    base64=True,
)
# Whatever else speaks the dialect: what OpenAI documents, by its first names, but nothing that a server promises.
DOCUMENTED = structs.replace(
    OPENAI,
    name="",
    takes=OPENAI.takes - {C.VISION, C.REASONING_EFFORT},
    limit="max_tokens",
    base64=False,
    thinking="",
    allowed_tools=False,
    strict_tools=False,
)
_VLLM = Profile(
    name="vllm",
    takes=_COMMON
    | _SHAPES
    | _CALLS
    | {C.TOKENS, C.LOGIT_BIAS, C.LOGPROBS, C.PROMPT_LOGPROBS, C.TOKEN_IDS, C.VISION, C.TOP_K, C.MIN_P, C.MIN_TOKENS}
    | {C.REPETITION_PENALTY, C.STOP_TOKEN_IDS, C.INCLUDE_STOP_STR_IN_OUTPUT, C.ALLOWED_TOKEN_IDS, C.BAD_WORDS}
    | {C.IGNORE_EOS, C.CONTINUE_FINAL, C.TEMPLATE_ARGUMENTS, C.TOKENIZE, C.TOKEN_COUNT},
    words={"token_ids": "return_token_ids"},
    shapes="structured_outputs",
    thinking="template",
    tokens="vllm",
    thoughts=True,
    salted=True,
    reads=_VECTORS | {C.SCORE},
    base64=True,
    cuts=True,
)
PROFILES = {
    profile.name: profile
    for profile in (
        GATEWAY,
        OPENAI,
        _VLLM,
        Profile(
            name="sglang",
            takes=(_COMMON - {C.SEED})
            | _SHAPES
            | _CALLS
            | {C.TOKENS, C.LOGIT_BIAS, C.TOP_K, C.MIN_P, C.MIN_TOKENS, C.REPETITION_PENALTY, C.STOP_TOKEN_IDS}
            | {C.IGNORE_EOS, C.TEMPLATE_ARGUMENTS},
            shapes="sglang",
            thinking="template",
            thoughts=True,
        ),
        Profile(
            name="llama-server",
            takes=_COMMON
            | _JSON
            | {C.CHOICE, C.GRAMMAR, C.TOKENS, C.LOGIT_BIAS, C.LOGPROBS, C.TOP_K, C.MIN_P, C.REPETITION_PENALTY}
            | {C.IGNORE_EOS, C.TEMPLATE_ARGUMENTS, C.TOKENIZE, C.TOKEN_COUNT},
            words={"repetition_penalty": "repeat_penalty"},
            shapes="llama-server",
            thinking="template",
            tokens="llama-server",
            tool_choices=frozenset({"auto", "none", "required"}),  # a named one would be taken for `auto`
            strict_tools=True,
            thoughts=True,
            reads=_VECTORS | {C.SCORE},
        ),
        Profile(
            name="ollama",
            takes=_COMMON | _JSON | {C.TOOLS, C.REASONING_EFFORT},
            chat_only=_CALLS | _JSON,
            thinking="effort",
            tool_choices=frozenset({"auto", "none"}),
        ),
        Profile(
            name="lmstudio",
            takes=_COMMON | {C.TOP_K, C.REPETITION_PENALTY, C.LOGIT_BIAS, C.JSON_SCHEMA, C.TOOLS},
            chat_only=_CALLS | _JSON,
            words={"repetition_penalty": "repeat_penalty"},
            tool_choices=frozenset({"auto", "none", "required"}),
        ),
        Profile(
            name="tgi",
            takes=_COMMON | {C.JSON_SCHEMA, C.REGEX, C.LOGPROBS, C.TOOLS},
            chat_only=_CALLS | _PENALTIES | {C.JSON_SCHEMA, C.REGEX, C.LOGPROBS},
            shapes="tgi",
            reads=frozenset(),
        ),
    )
}


def vllm(version: str) -> Profile:
    """Return the words of a release of vLLM: before 0.11 a shape was asked for as `guided_…`."""
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    old = bool(numbers) and numbers < [0, 11]
    return structs.replace(_VLLM, shapes="guided") if old else _VLLM


def llama_server(props: Mapping[str, Any]) -> Profile:
    """Return the words of llama-server, with tools and thoughts where it shows that the model's template has them.

    Without a place for tools it takes a choice of them, and drops it.
    """
    profile, abilities = PROFILES["llama-server"], props.get("chat_template_caps")
    takes = profile.takes
    if isinstance(abilities, dict) and abilities.get("supports_tools") and abilities.get("supports_tool_calls"):
        takes |= _CALLS
    if "enable_thinking" in str(props.get("chat_template")):
        takes |= {C.REASONING}
    return structs.replace(profile, takes=takes)
