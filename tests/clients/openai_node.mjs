// OpenAI's SDK for Node.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import {
  KEY,
  MODEL,
  PATIENCE,
  POOR_KEY,
  QUESTION,
  TOPICS,
  URL,
  VECTORS,
  eventually,
  refused,
  run,
  running,
  tell,
} from "./checks.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0, timeout: PATIENCE });

const say = (fields, options) =>
  client.chat.completions.create({ model: MODEL, messages: QUESTION, temperature: 0, ...fields }, options);

const follow = (script, asked = client) =>
  asked.chat.completions.create({
    model: "scripted",
    messages: [{ role: "user", content: JSON.stringify({ script }) }],
  });

async function answered() {
  await sleep(1_100); // scrapes within a second share one rendering
  const samples = (await tell("/metrics")).matchAll(/^llm_gateway_requests_total\{.*completions.* (\S+)$/gm);
  return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
}

async function requestsOf(ask) {
  const before = await answered();
  await ask();
  return (await answered()) - before;
}

await run({
  async "a whole chat"() {
    const answer = await say({ max_completion_tokens: 30 });
    assert.match(answer.choices[0].message.content, /Paris/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },

  async "a streamed chat is the whole one"() {
    const chunks = await Array.fromAsync(await say({ stream: true, stream_options: { include_usage: true } }));
    const whole = await say();
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    assert.equal(text, whole.choices[0].message.content);
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
  },

  async "the sdks own accumulator"() {
    const stream = client.chat.completions.stream({ model: MODEL, messages: QUESTION, temperature: 0 });
    assert.match(await stream.finalContent(), /Paris/);
  },

  async completions() {
    const fields = { model: MODEL, prompt: "The capital of France is", max_tokens: 8, temperature: 0 };
    const answer = await client.completions.create(fields);
    assert.match(answer.choices[0].text, /Paris/);
    const chunks = await Array.fromAsync(await client.completions.create({ ...fields, stream: true }));
    assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), answer.choices[0].text);
  },

  async models() {
    const names = (await Array.fromAsync(client.models.list())).map((model) => model.id);
    assert(names.includes(MODEL));
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  },

  async "vectors know what a text is about"() {
    const answer = await client.embeddings.create({ model: VECTORS, input: TOPICS });
    const [first, second, third] = answer.data.map((each) => each.embedding);
    const dot = (other) => first.reduce((sum, number, place) => sum + number * other[place], 0);
    assert.equal(first.length, 384);
    assert(dot(second) > 3 * Math.abs(dot(third)));
    const shorter = { model: VECTORS, input: TOPICS[0], dimensions: 64, encoding_format: "float" };
    assert.equal((await client.embeddings.create(shorter)).data[0].embedding.length, 64);
    const tooLong = { model: VECTORS, input: "a", dimensions: 385 };
    assert.equal((await refused(OpenAI.BadRequestError, () => client.embeddings.create(tooLong))).param, "dimensions");
  },

  async "a file of texts is answered as a batch"() {
    const url = "/v1/embeddings";
    const lines = TOPICS.map((input, place) =>
      JSON.stringify({ custom_id: `t${place}`, method: "POST", url, body: { model: VECTORS, input } }),
    ).join("\n");
    const given = await client.files.create({ file: await toFile(Buffer.from(lines), "texts.jsonl"), purpose: "batch" });
    assert.equal((await client.files.retrieve(given.id)).bytes, lines.length);
    const made = await client.batches.create({ input_file_id: given.id, endpoint: url, completion_window: "24h" });
    await eventually(async () => (await client.batches.retrieve(made.id)).status === "completed");
    const over = await client.batches.retrieve(made.id);
    assert.deepEqual(over.request_counts, { total: 3, completed: 3, failed: 0 });
    const answers = (await (await client.files.content(over.output_file_id)).text()).trim().split("\n").map(JSON.parse);
    assert.deepEqual(answers.map((each) => each.custom_id).sort(), ["t0", "t1", "t2"]);
    assert(answers.every((each) => each.response.body.data[0].embedding.length === 384));
    assert((await client.files.delete(given.id)).deleted);
    await refused(OpenAI.NotFoundError, () => client.files.retrieve(given.id));
  },

  async "errors have classes"() {
    const bad = await refused(OpenAI.BadRequestError, () => say({ temperature: 3 }));
    assert.deepEqual([bad.param, bad.code, bad.type], ["temperature", "invalid_value", "invalid_request_error"]);
    const stranger = client.withOptions({ apiKey: "wrong" });
    await refused(OpenAI.AuthenticationError, () => follow({}, stranger));
    assert.equal((await refused(OpenAI.NotFoundError, () => say({ model: "gpt-none" }))).code, "model_not_found");
    await refused(OpenAI.InternalServerError, () => follow({ fault: "raise", after: -1 }));
  },

  async "a limit is waited for as the headers say"() {
    const poor = client.withOptions({ apiKey: POOR_KEY });
    const spend = async () => {
      for (let left = 200; left; left--) await follow({}, poor);
    };
    // On a busy machine the key may have a request again before it is asked for: that shows nothing, and is done again.
    for (let left = 10; left; left--) {
      await refused(OpenAI.RateLimitError, spend);
      const began = performance.now();
      await follow({}, poor.withOptions({ maxRetries: 1 }));
      if (performance.now() - began > 1_000) return;
    }
    assert.fail("it never waited");
  },

  async "retries are as many as asked for and none where they are in vain"() {
    const patient = client.withOptions({ maxRetries: 2 });
    const fails = (script) => () => refused(OpenAI.InternalServerError, () => follow(script, patient));
    assert.equal(await requestsOf(fails({ fault: "raise", after: -1, code: "overloaded" })), 3);
    assert.equal(await requestsOf(fails({ fault: "raise", after: -1 })), 1);
  },

  async "who leaves in the middle leaves nothing behind"() {
    const stream = await say({ stream: true, max_completion_tokens: 4_000, ignore_eos: true });
    for await (const _ of stream) break;
    await eventually(async () => (await running()) === 0);
    const leaving = new AbortController();
    const whole = say({ max_completion_tokens: 4_000, ignore_eos: true }, { signal: leaving.signal });
    const left = refused(OpenAI.APIUserAbortError, () => whole);
    await eventually(async () => (await running()) === 1);
    leaving.abort();
    await left;
    await eventually(async () => (await running()) === 0);
  },
});
