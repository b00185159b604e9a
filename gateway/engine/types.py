"""The vocabulary that crosses the plugin border: pure data, frozen, unknown fields refused.

The same structs are the plugin API, the wire format between processes and the key of the answer cache.
What goes in is semantic (messages, text) and stands here; what comes out is in `events.py`.
"""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, structs

from gateway.engine.sampling import Sampling
from gateway.engine.tools import Tool, ToolCall, ToolResult

_NOTHING = Sampling()


class Capability(StrEnum):
    """What a model can be asked for: a feature, or one field of `Sampling` by its own name."""

    CHAT = "chat"
    COMPLETION = "completion"
    TOKENS = "tokens"
    EMBEDDING = "embedding"
    SCORE = "score"
    CLASSIFY = "classify"
    TOOLS = "tools"
    PARALLEL_TOOL_CALLS = "parallel_tool_calls"
    REASONING = "reasoning"
    REASONING_EFFORT = "reasoning_effort"
    REASONING_BUDGET = "reasoning_budget"
    VISION = "vision"
    TOKEN_COUNT = "token_count"
    TOKENIZE = "tokenize"
    TOKENIZER_INFO = "tokenizer_info"
    TRUNCATION_SIDE = "truncation_side"
    CONTINUE_FINAL = "continue_final"
    TEMPLATE_ARGUMENTS = "template_arguments"
    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    STANDBY = "standby"
    # One for each field of `Sampling`; a test keeps the two in step.
    MAX_TOKENS = "max_tokens"
    MAX_LENGTH = "max_length"
    MIN_TOKENS = "min_tokens"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MIN_P = "min_p"
    REPETITION_PENALTY = "repetition_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    LOGIT_BIAS = "logit_bias"
    SEED = "seed"
    STOP = "stop"
    STOP_TOKEN_IDS = "stop_token_ids"
    INCLUDE_STOP_STR_IN_OUTPUT = "include_stop_str_in_output"
    ALLOWED_TOKEN_IDS = "allowed_token_ids"
    BAD_WORDS = "bad_words"
    TOKEN_IDS = "token_ids"
    IGNORE_EOS = "ignore_eos"
    LOGPROBS = "logprobs"
    PROMPT_LOGPROBS = "prompt_logprobs"


class Text(Struct, frozen=True, tag="text", forbid_unknown_fields=True):
    """A run of text inside a message."""

    text: str


class Image(Struct, frozen=True, tag="image", forbid_unknown_fields=True):
    """An image inside a message: the encoded file's bytes, never a URL to fetch."""

    data: bytes
    media_type: str


class Thought(Struct, frozen=True, tag="thought", forbid_unknown_fields=True):
    """A thought of the assistant's before it answered; a template that has no place for it leaves it out."""

    text: str


Part = Text | Image | Thought | ToolCall | ToolResult
Role = Literal["system", "user", "assistant", "tool"]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The message's text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


ReasoningEffort = Literal["minimal", "low", "medium", "high", "xhigh", "max"]


class Chat(Struct, frozen=True, tag="chat", forbid_unknown_fields=True):
    """A conversation, to be put through the model's own chat template.

    `tool_choice` is `auto`, `none`, `required`, or the name of the one tool to call; with `allowed_tools` no others
    are called, though the model is told of all. Without `parallel_tool_calls` an answer has one call at most. With
    `continue_final` the last message is the beginning of the answer, which goes on where it ends and does not repeat
    it. Without `generation_prompt` the template ends with the last message and opens no turn for an answer.
    `template_arguments` are further variables of the template; which there are is the model's affair.

    `reasoning` says whether the model thinks before it answers, `reasoning_effort` how hard, `reasoning_budget` for how
    many tokens at most; None is the model's own default.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    continue_final: bool = False
    generation_prompt: bool = True
    template_arguments: dict[str, Any] = {}
    allowed_tools: tuple[str, ...] = ()
    parallel_tool_calls: bool = True
    reasoning: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning_budget: int | None = None


class Completion(Struct, frozen=True, tag="completion", forbid_unknown_fields=True):
    """A raw text to go on with; with `add_special` it gets the special tokens that the tokenizer adds by itself."""

    text: str
    add_special: bool = True


class Tokens(Struct, frozen=True, tag="tokens", forbid_unknown_fields=True):
    """A prompt that is tokenized already; used exactly as it is."""

    ids: tuple[int, ...]


Prompt = Chat | Completion | Tokens


class JsonSchema(Struct, frozen=True, tag="json_schema", forbid_unknown_fields=True):
    """The answer is JSON that the schema accepts."""

    schema: dict[str, Any]


class JsonObject(Struct, frozen=True, tag="json_object", forbid_unknown_fields=True):
    """The answer is one JSON object."""


class Regex(Struct, frozen=True, tag="regex", forbid_unknown_fields=True):
    """The answer matches the whole pattern."""

    pattern: str


class Choice(Struct, frozen=True, tag="choice", forbid_unknown_fields=True):
    """The answer is one of these texts."""

    options: tuple[str, ...]


class Grammar(Struct, frozen=True, tag="grammar", forbid_unknown_fields=True):
    """The answer is a sentence of this grammar (EBNF as llguidance reads it)."""

    text: str


Constraint = JsonSchema | JsonObject | Regex | Choice | Grammar


class GenerateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer to generate.

    `defaults` hold where `sampling` says nothing, before the model's own; they are wishes that refuse nothing.
    Of a longer prompt only the last `truncate` tokens are read, or the first with the `truncation_side` `right`, on
    which it is cut. `timeout` is the seconds left when the request is
    handed over; `priority` is higher for sooner; `trace` is a W3C traceparent; `salt` keeps one caller's prefix cache
    from another's. One with `standby` is computed only while the engine has nothing else to do, and has had nothing
    for so many seconds; meanwhile it is put aside, keeps what it has, and takes no place.
    """

    id: str
    model: str
    prompt: Prompt
    sampling: Sampling = Sampling()
    defaults: Sampling = Sampling()
    constraint: Constraint | None = None
    truncate: int | None = None
    truncation_side: Literal["left", "right"] = "left"
    timeout: float | None = None
    priority: int = 0
    trace: str | None = None
    salt: str = ""
    standby: float | None = None


EmbedRole = Literal["query", "document"]


class EmbedRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts, or tokens, to turn into vectors.

    A vector has `dimensions` numbers, the first of the model's own, normalized again where the model normalizes. The
    `role` says what the texts are for: a model that was taught so reads a prompt of its own before each. Of a longer
    input only the first `truncate` tokens are read, special ones counted; without it such a one is refused.
    """

    id: str
    model: str
    inputs: tuple[Completion | Tokens, ...]
    dimensions: int | None = None
    role: EmbedRole | None = None
    truncate: int | None = None
    timeout: float | None = None
    trace: str | None = None


class ScoreRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Documents to score by how well they answer queries, or to classify.

    With one query each document is scored against it, with as many as documents against its own: a row of one number.
    Without a query a document is classified: a row with a number for each label. `raw` asks for a model's own numbers.

    Of a longer pair, or document, only so many tokens are read as `truncate` says, special ones counted: the end of the
    document is left out. Without it such a one is refused. A document alone has at most `truncate_documents`.
    """

    id: str
    model: str
    documents: tuple[Completion | Tokens, ...]
    queries: tuple[Completion, ...] = ()
    raw: bool = False
    truncate: int | None = None
    truncate_documents: int | None = None
    timeout: float | None = None
    trace: str | None = None


class ModelCard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A served model. A name has no slash; the full id is an alias.

    `places` sequences run side by side; `cache_tokens` is what their KV cache holds together, in blocks of
    `block_tokens`, or 0 where it has none. The `fingerprint`
    (weights, dtype, template, engine version) keys the answer cache; `build` names what of that stays the same on
    another machine, each part by its name: the `system_fingerprint` digests it. `defaults` are the model's own sampling
    defaults, from its generation config. `note` tells people how these weights differ. `tools` names the form in which
    the model writes calls: `generic` where it was taught none and gets an instruction; empty where it calls nothing.
    A model that is another one with an adapter names it as its `parent`, and shares its places and its cache; `root` is
    the name that its own weights came under, where that is not `name`.
    """

    name: str
    context_window: int
    capabilities: frozenset[Capability]
    aliases: tuple[str, ...] = ()
    places: int = 1
    cache_tokens: int = 0
    block_tokens: int = 0
    vocabulary: int = 0
    fingerprint: str = ""
    build: dict[str, str] = {}
    owner: str = ""
    device: str = "cpu"
    dtype: str = ""
    defaults: Sampling = Sampling()
    note: str = ""
    tools: str = ""
    parent: str = ""
    root: str = ""

    @property
    def batch(self) -> str:
        """The name of the model whose places and cache its answers take."""
        return self.parent or self.name

    def under(self, defaults: Sampling) -> "ModelCard":
        """Return this card with a request's `defaults` laid over the model's own."""
        if defaults == _NOTHING:  # as a rule; at C's speed
            return self
        laid = {name: value for name, value in structs.asdict(defaults).items() if value is not None}
        if {"max_tokens", "max_length"} & laid.keys():
            laid = {"max_tokens": None, "max_length": None} | laid
        return structs.replace(self, defaults=structs.replace(self.defaults, **laid))
