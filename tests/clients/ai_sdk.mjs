// The AI SDK, by its provider for whatever is like OpenAI, and by OpenAI's own over chat completions and over Responses.

import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateObject, generateText, isStepCount, jsonSchema, streamObject, streamText } from "ai";
import { ASKED, KEY, MODEL, SCHEMA, URL, WEATHER, assertCall, eventually, refused, run, running, tries } from "./checks.mjs";

// Its warnings about settings that a provider does not know are for those that write the program.
globalThis.AI_SDK_LOG_WARNINGS = false;
const place = { baseURL: `${URL}/v1`, apiKey: KEY };
const compatible = createOpenAICompatible({ ...place, name: "gateway", includeUsage: true, supportsStructuredOutputs: true });
const openai = createOpenAI(place);
const MODELS = [compatible(MODEL), openai.chat(MODEL), openai.responses(MODEL)];
const SETTINGS = { maxRetries: 0, maxOutputTokens: 200 };

const schema = jsonSchema({
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] }, coastal: { type: "boolean" } },
  required: ["city", "coastal"],
  additionalProperties: false,
});
const tools = {
  get_weather: {
    description: "Tell the weather of a city.",
    inputSchema: jsonSchema(SCHEMA),
    strict: true,
    execute: async ({ city, days }) => `It is sunny in ${city} for ${days} days.`,
  },
};

const say = (model, fields) => generateText({ model, prompt: ASKED, temperature: 0, ...SETTINGS, ...fields });
const stream = (model, fields) => streamText({ model, prompt: ASKED, temperature: 0, ...SETTINGS, onError() {}, ...fields });

function assertCapital({ city, coastal, ...more }) {
  assert(["Paris", "Rome"].includes(city), city);
  assert.equal(typeof coastal, "boolean");
  assert.deepEqual(more, {});
}

await run({
  async "a streamed answer is the whole one"() {
    for (const model of MODELS) {
      const whole = await say(model);
      assert.match(whole.text, /Paris/);
      assert.equal(whole.finishReason, "stop");
      assert(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
      const told = stream(model);
      assert.equal((await Array.fromAsync(told.textStream)).join(""), whole.text);
      assert.equal((await told.usage).outputTokens, whole.usage.outputTokens);
    }
  },

  async "every object has its schema"() {
    for (const model of MODELS) {
      const asking = { model, schema, prompt: ASKED, temperature: 1, ...SETTINGS };
      await tries(async () => {
        assertCapital((await generateObject(asking)).object);
        const told = streamObject({ ...asking, onError() {} });
        assertCapital((await Array.fromAsync(told.partialObjectStream)).at(-1));
        assertCapital(await told.object);
      });
    }
  },

  async "so has the output of a text"() {
    for (const model of MODELS) {
      const output = Output.object({ schema });
      assertCapital((await say(model, { output, temperature: 1 })).output);
      const told = stream(model, { output, temperature: 1 });
      assertCapital((await Array.fromAsync(told.partialOutputStream)).at(-1));
      assertCapital(await told.output);
    }
  },

  async "tools are called whole and streamed"() {
    for (const model of MODELS) {
      const asking = { prompt: WEATHER, tools, temperature: 1, stopWhen: isStepCount(1) };
      await tries(async () => {
        const whole = await say(model, { ...asking, toolChoice: "required" });
        assert.equal(whole.finishReason, "tool-calls");
        const told = stream(model, { ...asking, toolChoice: { type: "tool", toolName: "get_weather" } });
        await told.consumeStream();
        for (const { toolCalls, toolResults } of [whole, { toolCalls: await told.toolCalls, toolResults: await told.toolResults }]) {
          assert(toolCalls.length >= 1);
          for (const call of toolCalls) assertCall(call.toolName, call.input);
          assert.match(toolResults[0].output, /sunny/);
        }
      });
    }
  },

  async "the pieces of a call add up to it"() {
    for (const model of MODELS) {
      const asking = { prompt: WEATHER, tools, toolChoice: "required", temperature: 1, stopWhen: isStepCount(1) };
      const parts = await Array.fromAsync(stream(model, asking).fullStream);
      const call = parts.find((part) => part.type === "tool-call");
      const pieces = parts.filter((part) => part.type === "tool-input-delta" && part.id === call.toolCallId);
      assert.deepEqual(JSON.parse(pieces.map((part) => part.delta).join("")), call.input);
    }
  },

  async "an answer follows the call"() {
    for (const model of MODELS) {
      const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" });
      const asking = { prompt: WEATHER, tools, stopWhen: isStepCount(2), prepareStep };
      const whole = await say(model, asking);
      assert.deepEqual([whole.steps.length, whole.finishReason], [2, "stop"]);
      assert(whole.text);
      const told = stream(model, asking);
      await told.consumeStream();
      assert.deepEqual([(await told.steps).length, await told.finishReason], [2, "stop"]);
      assert(await told.text);
    }
  },

  async "errors have their status and message"() {
    for (const model of MODELS) {
      const bad = await refused(APICallError, () => say(model, { temperature: 3 }));
      assert.deepEqual([bad.statusCode, bad.isRetryable], [400, false]);
      assert.match(bad.message, /temperature/);
    }
    const nobody = await refused(APICallError, () => say(compatible("gpt-none")));
    assert.equal(nobody.statusCode, 404);
    const stranger = createOpenAI({ ...place, apiKey: "wrong" });
    assert.equal((await refused(APICallError, () => say(stranger(MODEL)))).statusCode, 401);
  },

  async "who leaves in the middle leaves nothing behind"() {
    const slow = JSON.stringify({ script: { texts: Array(1_000).fill("tick "), delay: 0.05 } });
    for (const model of [compatible("scripted"), openai.chat("scripted"), openai.responses("scripted")]) {
      const leaving = new AbortController();
      const told = stream(model, { prompt: slow, maxOutputTokens: 1_000, abortSignal: leaving.signal });
      for await (const part of told.fullStream) {
        if (part.type !== "text-delta" || leaving.signal.aborted) continue;
        await eventually(async () => (await running()) === 1);
        leaving.abort();
      }
      await eventually(async () => (await running()) === 0);
    }
  },
});
