"""Chat templates of the families that call tools, cut down to the marks; written for the tests, none is a model's."""

_BEGIN = "<|im_start|>"
_TAIL = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def _template(**given):
    """Write a template: `tools` before the conversation, then its messages, each `call` in a `block`."""
    plain = {"between": "", "block": ("", ""), "result": "{{ m.content }}", "tail": _TAIL, "system": ""}
    parts = plain | given
    first, last = parts["block"]
    between = f"{{% if not loop.first %}}{parts['between']}{{% endif %}}"
    calls = f"{{% for c in m.tool_calls %}}{between}{parts['call']}{{% endfor %}}"
    return (
        f"{parts['system']}{{% if tools %}}{_BEGIN}system\n{parts['tools']}<|im_end|>\n{{% endif %}}"
        f"{{% for m in messages %}}{_BEGIN}{{{{ m.role }}}}\n"
        f"{{% if m.role == 'tool' %}}{parts['result']}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
        f"{{% if m.tool_calls %}}{first}{calls}{last}{{% endif %}}<|im_end|>\n{{% endfor %}}{parts['tail']}"
    )


def _object(key):
    return '{"name": "{{ c.function.name }}", "' + key + '": {{ c.function.arguments | tojson }}}'


_LISTED = "{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
_CALLS_BEGIN, _CALLS_END, _CALL_BEGIN, _CALL_END, _SEP = (
    f"<\uff5ctool▁{name}\uff5c>" for name in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")
)
_FIELDS = (
    "{% for k, v in c.function.arguments.items() %}{{ k }}:<escape>{{ v }}<escape>"
    "{% if not loop.last %},{% endif %}{% endfor %}"
)
_FIELDS_4 = _FIELDS.replace("<escape>", '<|"|>')
_PARAMETERS = "{% for k, v in c.function.arguments.items() %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}"
_KEYWORDS = (
    "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v | tojson }}{% if not loop.last %}, {% endif %}"
    "{% endfor %}"
)

TEMPLATES = {
    "hermes": _template(
        tools=f"Tools:\n{_LISTED}Call as <tool_call>{{}}</tool_call>",
        call="\n<tool_call>\n" + _object("arguments") + "\n</tool_call>",
        result="<tool_response>\n{{ m.content }}\n</tool_response>",
    ),
    "qwen-xml": _template(
        tools=_LISTED + "<tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call>",
        call="<tool_call>\n<function={{ c.function.name }}>\n" + _PARAMETERS + "</function>\n</tool_call>",
    ),
    "llama": _template(
        tools=_LISTED + 'Respond as {"name": function name, "parameters": dictionary of arguments}.',
        call=_object("parameters"),
    ),
    "pythonic": _template(
        tools=_LISTED + "Respond as [func_name(param=value, other=value), func_name(param=value)]",
        call="{{ c.function.name }}(" + _KEYWORDS + ")",
        block=("[", "]"),
        between=", ",
    ),
    "mistral-list": _template(
        tools="[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]",
        call=_object("arguments"),
        block=("[TOOL_CALLS][", "]"),
        between=", ",
        system="{% for m in messages %}{% if m.role == 'tool' and m.tool_call_id | length != 9 %}"
        "{{ raise_exception('ids have 9 characters') }}{% endif %}{% endfor %}",
    ),
    "mistral": _template(
        tools="[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]",
        call="[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}",
    ),
    "deepseek": _template(
        tools=_LISTED,
        call=f"{_CALL_BEGIN}function{_SEP}{{{{ c.function.name }}}}\n"
        f"```json\n{{{{ c.function.arguments }}}}\n```{_CALL_END}",
        block=(_CALLS_BEGIN, _CALLS_END),
    ),
    "deepseek-v3.1": _template(
        tools=_LISTED,
        call=f"{{{{ '{_CALL_BEGIN}' + c.function.name + '{_SEP}' + c.function.arguments + '{_CALL_END}' }}}}",
        block=(_CALLS_BEGIN, _CALLS_END),
    ),
    # These two show the calls of no message, as is the case with those that Granite 3 and Phi-4-mini come with.
    "granite": "{% if tools %}<|start_of_role|>tools<|end_of_role|>{{ tools | tojson }} Where a tool is needed, answer "
    "with <|tool_call|> and a JSON list of the tools used.<|end_of_text|>\n{% endif %}{% for m in messages %}"
    "<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
    "phi": "{% for m in messages %}{% if m.role == 'system' and 'tools' in m and m.tools is not none %}"
    "{{ '<|system|>' + m.content + '<|tool|>' + m.tools + '<|/tool|><|end|>' }}"
    "{% else %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "gemma": _template(
        tools=_LISTED,
        call="<start_function_call>call:{{ c.function.name }}{{ '{' }}" + _FIELDS + "}<end_function_call>",
    ),
    "gemma-4": _template(
        tools=_LISTED, call="<|tool_call>call:{{ c.function.name }}{{ '{' }}" + _FIELDS_4 + "}<tool_call|>"
    ),
    "harmony": _template(
        tools="Channels: analysis, commentary, final. Calls go to the commentary channel: 'functions'.\n" + _LISTED,
        # Its text is in two pieces, of which neither says where a call goes.
        call="{{- '<|start|>assistant to=' }}\n    {{- 'functions.' + c.function.name + '<|channel|>commentary ' }}\n"
        "    {{- 'json<|message|>' }}\n    {{- c.function.arguments | tojson }}\n    {{- '<|call|>' }}",
        tail="{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        system="{# <|channel|>analysis<|message|> #}",
    ),
    "json": _template(
        tools=_LISTED + 'Answer with {"name": the name, "arguments": an object}.', call=_object("arguments")
    ),
}
