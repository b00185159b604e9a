"""What a client sends back of an answer is known: the SDKs' own messages, and every key that the APIs document.

`server.strict` refuses a key that no body knows, so these bodies leave none.
"""

import json
import typing

import anthropic
import anthropic.types
import httpx
import httpx2
import msgspec
import openai
import openai.types.chat
import openai.types.responses
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params, shared_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from openai.types.shared_params import response_format_json_schema
from pydantic import BaseModel

from gateway.api.anthropic import blocks, thinking
from gateway.api.anthropic import schema as anthropic_schema
from gateway.api.anthropic import tools as anthropic_tools
from gateway.api.anthropic.render import MessagesRendering
from gateway.api.anthropic.translate import to_request
from gateway.api.exchange import shape
from gateway.api.exchange.asked import Asking
from gateway.api.http.body import RequestBody
from gateway.api.openai import messages, schema, shared
from gateway.api.openai import tools as openai_tools
from gateway.api.responses import items
from gateway.api.responses import schema as responses_schema
from gateway.api.responses.render import to_rendering
from gateway.api.responses.translate import to_prompts
from gateway.config import Config
from gateway.engine import (
    Capability,
    Delta,
    Finished,
    FinishReason,
    Fold,
    ModelCard,
    Started,
    Text,
    Thought,
    ToolCall,
    ToolDelta,
    Usage,
)
from tests.support.openai_dialect import asked, chat, rendering

EVENTS = (
    Started(7, cached_tokens=2),
    Delta("", reasoning="hm"),
    Delta('{"x":1}'),
    ToolDelta(0, "{}", "c0", "f"),
    Finished(FinishReason.TOOL_CALLS, Usage(7, 3)),
)
QUESTION = [{"role": "user", "content": "hi", "name": "me"}]
PLAIN = [{"role": "user", "content": "hi"}]
CARD = ModelCard(name="m", context_window=100, capabilities=frozenset(Capability))
TOOL = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {}}}


class Parsed(BaseModel):
    """What an answer is parsed into."""

    x: int


class Server:
    """Answers every request of an SDK alike, and keeps the last body."""

    def __init__(self, library, whole: bytes, stream: bytes) -> None:
        self.bodies = []
        self.client = library.Client(transport=library.MockTransport(self._answer))
        self._library = library
        self._whole, self._stream = whole, stream

    def _answer(self, request):
        self.bodies.append(json.loads(request.content))
        is_stream = self.bodies[-1].get("stream")
        kind = {"content-type": "text/event-stream" if is_stream else "application/json"}
        return self._library.Response(200, content=self._stream if is_stream else self._whole, headers=kind)


def fold():
    folded = Fold()
    for event in EVENTS:
        folded.add(event)
    return folded.answer()


def noted(whole):
    """Render a whole answer, as every answer that is not streamed is."""
    for event in EVENTS:
        whole.note(event)
    return whole.to_reply({0: fold()}, Usage(7, 3))


def to_response():
    body = responses_schema.responses_decoder.decode(b'{"input": "hi", "include": ["reasoning.encrypted_content"]}')
    return to_rendering(body, CARD, "1")


def unknown(decoder, body):
    """Name the keys of a body that are not known."""
    sent = RequestBody(msgspec.json.encode(body))
    return sent.unknown(sent.decode(decoder))


@pytest.fixture
def openai_server():
    streamed = rendering(chat(stream=True))
    frames = b"".join(streamed.to_frame(event) for event in EVENTS) + b"data: [DONE]\n\n"
    return Server(httpx, rendering(chat()).to_reply({0: fold()}, Usage(7, 3)), frames)


@pytest.fixture
def anthropic_server():
    streamed = MessagesRendering("m", "1")
    frames = b"".join(streamed.to_frame(event) for event in EVENTS)
    return Server(httpx2, noted(MessagesRendering("m", "1")), frames)


@pytest.fixture
def responses_server():
    frames = b"".join(streamed.to_frame(event) for streamed in [to_response()] for event in EVENTS)
    return Server(httpx, noted(to_response()), frames)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the SDK's own, of what it parsed itself
@pytest.mark.parametrize("way", ["create", "stream", "parse"])
def test_an_answer_of_openais_sdk_can_be_sent_back(openai_server, way):
    client = openai.OpenAI(base_url="http://x/v1", api_key="k", http_client=openai_server.client)
    if way == "create":
        message = client.chat.completions.create(model="m", messages=QUESTION).choices[0].message
    elif way == "parse":
        parsed = client.chat.completions.parse(model="m", messages=QUESTION, response_format=Parsed, tools=[TOOL])
        message = parsed.choices[0].message
    else:
        with client.chat.completions.stream(model="m", messages=QUESTION) as stream:
            message = stream.get_final_completion().choices[0].message
    results = {"role": "tool", "tool_call_id": "c0", "content": "1"}
    client.chat.completions.create(model="m", messages=[*QUESTION, message, results])
    body = openai_server.bodies[-1]
    assert len(body["messages"][1]) > 3
    assert unknown(schema.chat_decoder, body) == []
    sent = asked(schema.chat_decoder.decode(msgspec.json.encode(body))).prompt.messages[1]
    assert [sent.text, *(part for part in sent.parts if isinstance(part, ToolCall))] == [
        '{"x":1}',
        ToolCall("c0", "f", "{}"),
    ]


@pytest.mark.parametrize("way", ["create", "stream", "parse"])
def test_an_answer_of_anthropics_sdk_can_be_sent_back(anthropic_server, way):
    client = anthropic.Anthropic(base_url="http://x", api_key="k", http_client=anthropic_server.client)
    least = {"model": "m", "max_tokens": 9, "messages": PLAIN}
    if way == "create":
        content = client.messages.create(**least).content
    elif way == "parse":
        content = client.messages.parse(**least, output_format=Parsed).content
    else:
        with client.messages.stream(**least) as stream:
            content = stream.get_final_message().content
    results = [{"type": "tool_result", "tool_use_id": "c0", "content": "1"}]
    turns = [*PLAIN, {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    client.messages.create(**least | {"messages": turns})
    body = anthropic_server.bodies[-1]
    assert len(body["messages"][1]["content"]) == 3
    assert unknown(anthropic_schema.messages_decoder, body) == []
    sent = to_request(anthropic_schema.messages_decoder.decode(msgspec.json.encode(body)), "1").prompt.messages[1]
    assert [sent.text, *(part for part in sent.parts if isinstance(part, ToolCall))] == [
        '{"x":1}',
        ToolCall("c0", "f", "{}"),
    ]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the SDK's own, of what it parsed itself
@pytest.mark.parametrize("keeps", ["all", "no content"])
@pytest.mark.parametrize("way", ["create", "stream", "parse"])
def test_a_response_of_openais_sdk_can_be_sent_back(responses_server, way, keeps):
    """Some clients, as Codex, send a thought back by its encrypted content alone."""
    client = openai.OpenAI(base_url="http://x/v1", api_key="k", http_client=responses_server.client)
    asked = {"model": "m", "input": PLAIN, "store": False, "include": ["reasoning.encrypted_content"]}
    if way == "create":
        output = client.responses.create(**asked).output
    elif way == "parse":
        output = client.responses.parse(**asked, text_format=Parsed).output
    else:
        with client.responses.stream(**asked) as stream:
            output = stream.get_final_response().output
    items = [item.model_dump(exclude_unset=True) if keeps == "no content" else item for item in output]
    if keeps == "no content":
        del items[0]["content"]
    results = {"type": "function_call_output", "call_id": "c0", "output": "1"}
    client.responses.create(**asked | {"input": [*PLAIN, *items, results]})
    body = responses_server.bodies[-1]
    assert unknown(responses_schema.responses_decoder, body) == []
    decoded = responses_schema.responses_decoder.decode(msgspec.json.encode(body))
    (request,) = to_prompts(decoded, Asking(CARD, Config(), "1", 0)).requests
    assert request.prompt.messages[1].parts == (Thought("hm"), Text('{"x":1}'), ToolCall("c0", "f", "{}"))


CHAT = openai.types.chat
RESPONSES = openai.types.responses
CLAUDE = anthropic.types
DOCUMENTED = [
    (chat_params.CompletionCreateParamsNonStreaming, schema.ChatCompletionBody),
    (completion_create_params.CompletionCreateParamsNonStreaming, schema.CompletionBody),
    (CHAT.ChatCompletionAssistantMessageParam, messages.InputMessage),
    (CHAT.ChatCompletionDeveloperMessageParam, messages.InputMessage),
    (CHAT.ChatCompletionSystemMessageParam, messages.InputMessage),
    (CHAT.ChatCompletionToolMessageParam, messages.InputMessage),
    (CHAT.ChatCompletionUserMessageParam, messages.InputMessage),
    (CHAT.ChatCompletionContentPartImageParam, messages.ContentPart),
    (CHAT.ChatCompletionContentPartInputAudioParam, messages.ContentPart),
    (CHAT.ChatCompletionContentPartRefusalParam, messages.ContentPart),
    (CHAT.ChatCompletionContentPartTextParam, messages.ContentPart),
    (CHAT.ChatCompletionFunctionToolParam, openai_tools.FunctionTool),
    (CHAT.ChatCompletionMessageFunctionToolCallParam, openai_tools.FunctionCall),
    (CHAT.ChatCompletionNamedToolChoiceParam, openai_tools.ChosenTool),
    (CHAT.ChatCompletionAllowedToolChoiceParam, openai_tools.ChosenTool),
    (CHAT.ChatCompletionAllowedToolsParam, openai_tools.AllowedTools),
    (CHAT.ChatCompletionFunctionMessageParam, messages.InputMessage),
    (chat_params.Function, openai_tools.ToolFunction),
    (CHAT.ChatCompletionStreamOptionsParam, shared.StreamOptions),
    (shared_params.FunctionDefinition, openai_tools.ToolFunction),
    (shared_params.ResponseFormatJSONSchema, shape.ResponseFormat),
    (response_format_json_schema.JSONSchema, shape.NamedSchema),
    (response_create_params.ResponseCreateParamsNonStreaming, responses_schema.ResponsesBody),
    (RESPONSES.EasyInputMessageParam, items.InputItem),
    (RESPONSES.ResponseOutputMessageParam, items.InputItem),
    (RESPONSES.ResponseReasoningItemParam, items.InputItem),
    (RESPONSES.ResponseFunctionToolCallParam, items.InputItem),
    (RESPONSES.response_input_item_param.FunctionCallOutput, items.InputItem),
    (RESPONSES.response_input_item_param.ItemReference, items.InputItem),
    (RESPONSES.response_reasoning_item_param.Content, items.ItemPart),
    (RESPONSES.ResponseInputTextParam, items.ItemPart),
    (RESPONSES.ResponseOutputTextParam, items.ItemPart),
    (RESPONSES.ResponseOutputRefusalParam, items.ItemPart),
    (RESPONSES.FunctionToolParam, responses_schema.FunctionDefinition),
    (RESPONSES.ToolChoiceFunctionParam, responses_schema.FunctionChoice),
    (RESPONSES.ToolChoiceAllowedParam, responses_schema.FunctionChoice),
    (RESPONSES.ResponseFormatTextJSONSchemaConfigParam, responses_schema.TextFormat),
    (shared_params.Reasoning, responses_schema.ReasoningConfig),
    (message_create_params.MessageCreateParamsNonStreaming, anthropic_schema.MessagesBody),
    (message_count_tokens_params.MessageCountTokensParams, anthropic_schema.CountBody),
    (CLAUDE.UserMessageParam, blocks.MessageParam),
    (CLAUDE.AssistantMessageParam, blocks.MessageParam),
    (CLAUDE.SystemMessageParam, blocks.MessageParam),
    (CLAUDE.TextBlockParam, blocks.TextBlock),
    (CLAUDE.TextBlockParam, blocks.SystemBlock),
    (CLAUDE.ImageBlockParam, blocks.ImageBlock),
    (CLAUDE.Base64ImageSourceParam, blocks.Base64Source),
    (CLAUDE.URLImageSourceParam, blocks.UrlSource),
    (CLAUDE.ThinkingBlockParam, blocks.ThinkingBlock),
    (CLAUDE.RedactedThinkingBlockParam, blocks.RedactedThinkingBlock),
    (CLAUDE.ToolUseBlockParam, blocks.ToolUseBlock),
    (CLAUDE.ToolResultBlockParam, blocks.ToolResultBlock),
    (CLAUDE.ToolParam, anthropic_tools.ToolParam),
    (CLAUDE.ToolChoiceAutoParam, anthropic_tools.ToolChoiceParam),
    (CLAUDE.ToolChoiceAnyParam, anthropic_tools.ToolChoiceParam),
    (CLAUDE.ToolChoiceToolParam, anthropic_tools.ToolChoiceParam),
    (CLAUDE.ToolChoiceNoneParam, anthropic_tools.ToolChoiceParam),
    (CLAUDE.ThinkingConfigEnabledParam, thinking.Thinking),
    (CLAUDE.ThinkingConfigAdaptiveParam, thinking.Thinking),
    (CLAUDE.ThinkingConfigDisabledParam, thinking.Thinking),
    (CLAUDE.ThinkingConfigBetweenToolsParam, thinking.Thinking),
    (CLAUDE.OutputConfigParam, anthropic_schema.OutputConfig),
    (CLAUDE.JSONOutputFormatParam, anthropic_schema.OutputFormat),
    (CLAUDE.MetadataParam, anthropic_schema.Metadata),
]


@pytest.mark.parametrize(("documented", "kind"), DOCUMENTED, ids=lambda kind: kind.__name__)
def test_every_key_that_an_api_documents_is_known(documented, kind):
    tag = kind.__struct_config__.tag_field
    assert set(typing.get_type_hints(documented)) <= {*kind.__struct_encode_fields__, *([tag] if tag else ())}
