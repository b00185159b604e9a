// A request as code to paste. A key is never written out: each program takes it from LLM_GATEWAY_KEY.

import { toUrl } from "./api.js";

// What the function of OpenAI's SDK has an argument for; the rest goes through `extra_body`.
const SDK = new Set([
    ...["model", "messages", "prompt", "stream", "stream_options", "temperature", "top_p", "max_completion_tokens"],
    ...[
        "max_tokens",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
    ],
    ...["tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "n", "user", "echo"],
]);

export const LANGUAGES = { curl: toCurl, Python: toPython, JavaScript: toJavaScript };

function toCurl(path, body, hasKey) {
    const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
    const header = hasKey ? ' \\\n  -H "authorization: Bearer $LLM_GATEWAY_KEY"' : "";
    return `curl -N ${toUrl(path)} \\\n  -H 'content-type: application/json'${header} \\\n  -d '${quoted}'`;
}

function toPython(path, body, hasKey) {
    const isChat = path.endsWith("chat/completions");
    const own = Object.entries(body).filter(([name]) => SDK.has(name) && name !== "stream_options");
    const extra = Object.fromEntries(Object.entries(body).filter(([name]) => !SDK.has(name)));
    const all = [...own, ...(Object.keys(extra).length ? [["extra_body", extra]] : [])];
    const given = all.map(([name, value]) => `    ${name}=${literal(value)},`).join("\n");
    const piece = isChat ? 'chunk.choices[0].delta.content or ""' : "chunk.choices[0].text";
    return `${hasKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${toUrl("v1")}", api_key=${hasKey ? 'os.environ["LLM_GATEWAY_KEY"]' : '"none"'})
stream = client.${isChat ? "chat.completions" : "completions"}.create(
${given}
)
for chunk in stream:
    if chunk.choices:
        print(${piece}, end="", flush=True)
print()`;
}

function literal(value) {
    if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
    if (value === null) return "None";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (typeof value !== "object") return JSON.stringify(value);
    return `{${Object.entries(value)
        .map(([name, inner]) => `${JSON.stringify(name)}: ${literal(inner)}`)
        .join(", ")}}`;
}

function toJavaScript(path, body, hasKey) {
    const header = hasKey ? "\n    authorization: `Bearer ${process.env.LLM_GATEWAY_KEY}`," : "";
    const piece = path.endsWith("chat/completions") ? "delta.content" : "text";
    return `const answer = await fetch("${toUrl(path)}", {
  method: "POST",
  headers: {
    "content-type": "application/json",${header}
  },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
if (!answer.ok) throw new Error(await answer.text());
let rest = "";
let text = "";
for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
  const frames = (rest + piece).split("\\n\\n");
  rest = frames.pop();
  for (const frame of frames.filter((frame) => frame.startsWith("data: {"))) {
    text += JSON.parse(frame.slice("data: ".length)).choices?.[0]?.${piece} ?? "";
  }
}
console.log(text);`;
}
