// OpenAI's SDK for Node, over Responses, and what both of its APIs parse.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  ASKED, KEY, MODEL, PATIENCE, QUESTION, SCHEMA, URL, WEATHER, assertCall, eventually, refused, run, running, tries,
} from "./checks.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0, timeout: PATIENCE });
const TOOL = { type: "function", name: "get_weather", parameters: SCHEMA, strict: true };
const CALL = { input: WEATHER, tools: [TOOL], temperature: 1, parallel_tool_calls: false };
const Capital = z.object({ city: z.enum(["Paris", "Rome"]), coastal: z.boolean() });
const Weather = z.object({ city: z.enum(["Paris", "Rome"]), days: z.int().min(1).max(7) });
// Longer than anybody waits, and without a model's work.
const LONG = {
  model: "scripted",
  input: [{ role: "user", content: JSON.stringify({ script: { texts: Array(1_000).fill("tick "), delay: 0.05 } }) }],
  max_output_tokens: 1_000,
};

const asking = (fields) => ({ model: MODEL, input: ASKED, temperature: 0, ...fields });
const say = (fields) => client.responses.create(asking(fields));

await run({
  async "a whole response"() {
    const answer = await say({ metadata: { of: "france" } });
    assert.match(answer.output_text, /Paris/);
    assert.deepEqual([answer.status, answer.metadata], ["completed", { of: "france" }]);
    assert.equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens);
  },

  async "a streamed response is the whole one"() {
    const whole = await say();
    const events = await Array.fromAsync(await say({ stream: true }));
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    assert.equal(deltas.map((event) => event.delta).join(""), whole.output_text);
    assert.equal(events.at(-1).response.usage.output_tokens, whole.usage.output_tokens);
    const final = await client.responses.stream(asking()).finalResponse();
    assert.equal(final.output_text, whole.output_text);
  },

  async "answers are parsed as the shape that was asked for"() {
    const text = { format: zodTextFormat(Capital, "capital") };
    const chat = { model: MODEL, messages: QUESTION, temperature: 1, response_format: zodResponseFormat(Capital, "capital") };
    await tries(async () => {
      Capital.parse((await client.responses.parse(asking({ text, temperature: 1 }))).output_parsed);
      Capital.parse((await client.responses.stream(asking({ text, temperature: 1 })).finalResponse()).output_parsed);
      Capital.parse((await client.chat.completions.parse(chat)).choices[0].message.parsed);
      Capital.parse((await client.chat.completions.stream(chat).finalChatCompletion()).choices[0].message.parsed);
    });
  },

  async "functions are called whole streamed and parsed"() {
    const tool_choice = { type: "function", name: "get_weather" };
    const parsed = zodResponsesFunction({ name: "get_weather", parameters: Weather });
    const chat = {
      model: MODEL,
      messages: [{ role: "user", content: WEATHER }],
      tools: [zodFunction({ name: "get_weather", parameters: Weather })],
      temperature: 1,
      tool_choice: "required",
      parallel_tool_calls: false,
    };
    await tries(async () => {
      const [whole] = (await say({ ...CALL, tool_choice: "required" })).output;
      assertCall(whole.name, JSON.parse(whole.arguments));
      const [told] = (await client.responses.stream(asking({ ...CALL, tool_choice })).finalResponse()).output;
      assertCall(told.name, JSON.parse(told.arguments));
      const [own] = (await client.responses.parse(asking({ ...CALL, tools: [parsed], tool_choice: "required" }))).output;
      assertCall(own.name, own.parsed_arguments);
      const chats = [await client.chat.completions.parse(chat), await client.chat.completions.stream(chat).finalChatCompletion()];
      for (const { choices } of chats) {
        const [call] = choices[0].message.tool_calls;
        assertCall(call.function.name, call.function.parsed_arguments);
      }
    });
  },

  async "a function answers and the model goes on"() {
    const called = await say({ ...CALL, tool_choice: "required" });
    const result = { type: "function_call_output", call_id: called.output[0].call_id, output: "Sunny in Paris." };
    const after = { tools: [TOOL], tool_choice: "none" };
    const told = await say({ ...after, input: [{ role: "user", content: WEATHER }, ...called.output, result] });
    assert(told.output_text);
    const stored = await say({ ...after, input: [result], previous_response_id: called.id });
    assert.equal(stored.output_text, told.output_text);
  },

  async "a stored response is read and deleted"() {
    const answer = await say();
    assert.equal((await client.responses.retrieve(answer.id)).output_text, answer.output_text);
    const items = await Array.fromAsync(client.responses.inputItems.list(answer.id));
    assert.deepEqual(items.map((item) => item.content[0].text), [ASKED]);
    await client.responses.delete(answer.id);
    await refused(OpenAI.NotFoundError, () => client.responses.retrieve(answer.id));
    await refused(OpenAI.NotFoundError, () => client.responses.delete(answer.id));
  },

  async "one goes on from another"() {
    const first = await say();
    const second = await say({ input: "Say that again.", previous_response_id: first.id });
    const items = await Array.fromAsync(client.responses.inputItems.list(second.id, { order: "asc", limit: 1 }));
    assert.deepEqual(items.map((item) => item.content[0].text), [ASKED, first.output_text, "Say that again."]);
  },

  async "one in the background is waited for and one is cancelled"() {
    const waited = await say({ background: true });
    await eventually(async () => (await client.responses.retrieve(waited.id)).status === "completed");
    const cancelled = await say({ ...LONG, background: true });
    await eventually(async () => (await running()) === 1);
    assert.equal((await client.responses.cancel(cancelled.id)).status, "cancelled");
    await eventually(async () => (await running()) === 0);
  },

  async "a stream is taken up again where it was left"() {
    const events = [];
    for await (const event of await say({ background: true, stream: true })) if (events.push(event) === 4) break;
    const { id } = events[0].response;
    events.push(...(await Array.fromAsync(await client.responses.retrieve(id, { stream: true, starting_after: 3 }))));
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.match(events.at(-1).response.output[0].content[0].text, /Paris/);
  },

  async "errors have classes"() {
    const bad = await refused(OpenAI.BadRequestError, () => say({ temperature: 3 }));
    assert.deepEqual([bad.param, bad.code, bad.type], ["temperature", "invalid_value", "invalid_request_error"]);
    await refused(OpenAI.NotFoundError, () => say({ model: "gpt-none" }));
  },

  async "who leaves in the middle leaves nothing behind"() {
    for await (const _ of await say({ ...LONG, stream: true })) break;
    await eventually(async () => (await running()) === 0);
  },
});
