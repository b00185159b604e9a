// Which parameters a model honours, as a form, and what stands in it as values of a request. Names, kinds and bounds
// come from the service: `/v1/models/{id}/capabilities`, and `fields.json` beside this file.

// These come first, in this order; all others that the model honours follow.
const FIRST = [
    ...["temperature", "top_p", "top_k", "min_p", "max_completion_tokens", "max_tokens", "min_tokens", "seed", "stop"],
    ...["repetition_penalty", "presence_penalty", "frequency_penalty", "reasoning_effort", "enable_thinking"],
];
// The page asks for these itself, or shows one answer only.
const OWN = [
    ...["model", "messages", "prompt", "stream", "stream_options", "n", "best_of", "tools", "tool_choice"],
    ...["functions", "function_call", "logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids"],
    ...[
        "return_tokens_as_token_ids",
        "timings_per_token",
        "store",
        "metadata",
        "response_format",
        "structured_outputs",
    ],
];
// Other words for what has a field already.
const SYNONYMS = [
    ...["guided_json", "guided_json_object", "guided_regex", "guided_choice", "guided_grammar", "grammar", "ebnf"],
    ...["regex", "json_schema", "format", "thinking", "reasoning", "thinking_token_budget", "thinking_budget_tokens"],
    ...["reasoning_budget"],
];
const LEFT_OUT = new Set([...OWN, ...SYNONYMS]);

export const CHAT = { path: "v1/chat/completions", route: "chat.completions" };
export const TEXT = { path: "v1/completions", route: "completions" };

/** Return `{ name, kind, about, minimum, maximum, values, isFirst }` for each parameter that the model honours. */
export function toForm(capabilities, fields, { path, route }) {
    const own = fields[`/${path}`] ?? {};
    const honoured = capabilities?.routes[route]?.honoured ?? [];
    const shown = honoured.filter((name) => own[name] && !LEFT_OUT.has(name) && !isOlder(name, honoured));
    const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
    return shown
        .sort((one, other) => rank(one) - rank(other) || one.localeCompare(other))
        .map((name) => ({ name, ...own[name], isFirst: FIRST.includes(name) }));
}

const isOlder = (name, honoured) => name === "max_tokens" && honoured.includes("max_completion_tokens");

/** Read texts by name as values by name; throw an `Error` that names the field where one is no value. */
export function toValues(form, written) {
    const known = form.filter(({ name }) => (written[name] ?? "").trim() !== "");
    return Object.fromEntries(known.map(({ name, kind }) => [name, toValue(name, kind, written[name])]));
}

const READERS = {
    number: readNumber,
    integer: readNumber,
    boolean: (text) => text === "true",
    choice: (text) => text,
    text: (text) => text,
    texts: (text) => text.split("\n").filter(Boolean).map(unescape),
    integers: (text) =>
        text
            .split(/[\s,]+/)
            .filter(Boolean)
            .map(readNumber),
    json: (text) => JSON.parse(text),
};

function toValue(name, kind, text) {
    try {
        return READERS[kind](text);
    } catch (error) {
        throw new Error(`${name}: ${error.message}`);
    }
}

function readNumber(text) {
    const number = Number(text);
    if (!Number.isFinite(number)) throw new Error(`${text} is no number`);
    return number;
}

/** A line cannot hold the end of one: `\n` and `\t` stand for themselves. */
const unescape = (line) => line.replace(/\\([nt\\])/g, (_, letter) => ({ n: "\n", t: "\t", "\\": "\\" })[letter]);

// The shapes that an answer can be held to, by the capability.
export const SHAPES = {
    json_object: { label: "a JSON object", hint: "", to: () => ({ response_format: { type: "json_object" } }) },
    json_schema: {
        label: "JSON of a schema",
        hint: '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
        to: toSchema,
    },
    regex: { label: "a regular expression", hint: "[A-Z][a-z]+", to: (text) => outputs({ regex: text }) },
    choice: {
        label: "one of these lines",
        hint: "yes\nno",
        to: (text) => outputs({ choice: text.split("\n").filter(Boolean) }),
    },
    grammar: { label: "a grammar", hint: 'root ::= "yes" | "no"', to: (text) => outputs({ grammar: text }) },
};

const outputs = (asked) => ({ structured_outputs: asked });

function toSchema(text) {
    return {
        response_format: {
            type: "json_schema",
            json_schema: { name: "answer", schema: toValue("schema", "json", text) },
        },
    };
}

/** Return the words of a request for a shape, or none where any text will do. */
export const toShape = ({ kind, text }, capabilities) =>
    kind && capabilities?.capabilities.includes(kind) ? SHAPES[kind].to(text) : {};
