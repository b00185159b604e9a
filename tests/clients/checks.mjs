// What the scripts for Node share: where the service is, what it tells, how claims are checked.

import assert from "node:assert/strict";
import { env, exit } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

export const URL = env.GATEWAY_URL;
export const KEY = env.GATEWAY_KEY;
export const POOR_KEY = env.GATEWAY_POOR_KEY;
export const MODEL = "smollm2-135m-instruct";
export const VECTORS = "all-minilm-l6-v2";
export const TOPICS = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock markets fell on Monday."];
export const ASKED = "What is the capital of France?";
export const QUESTION = [{ role: "user", content: ASKED }];
export const WEATHER = "What is the weather in Paris?";
export const SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string", enum: ["Paris", "Rome"] },
    days: { type: "integer", minimum: 1, maximum: 7 },
  },
  required: ["city", "days"],
  additionalProperties: false,
};
export const TRIES = 20;
// Milliseconds for one request: it ends what hangs, on a machine however busy.
export const PATIENCE = 240_000;

export function assertCall(name, { city, days, ...more }) {
  assert.equal(name, "get_weather");
  assert(["Paris", "Rome"].includes(city), city);
  assert(Number.isInteger(days) && days >= 1 && days <= 7, days);
  assert.deepEqual(more, {});
}

export async function tries(attempt) {
  for (let left = TRIES; left; left--) await attempt();
}

export const tell = async (path) =>
  (await fetch(URL + path, { headers: { authorization: `Bearer ${KEY}` } })).text();

export const running = async () => JSON.parse(await tell("/v1/requests")).data.length;

export async function eventually(look) {
  for (let left = 1_200; !(await look()); left--) {
    assert(left, "not within a minute");
    await sleep(50);
  }
}

export async function refused(kind, ask) {
  const error = await ask().then((answer) => assert.fail(`no ${kind.name}: ${JSON.stringify(answer)}`), (error) => error);
  assert.equal(error.constructor, kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

export async function run(claims) {
  let failed = 0;
  for (const [name, claim] of Object.entries(claims)) {
    try {
      await claim();
      console.log(`ok ${name}`);
    } catch (error) {
      failed = 1;
      console.error(error);
      console.log(`FAILED ${name}: ${error.name}: ${error.message.split("\n")[0]}`);
    }
  }
  exit(failed);
}
