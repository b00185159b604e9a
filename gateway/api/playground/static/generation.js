// One streamed answer: what was asked for is sent, and a round of the conversation is filled with what comes.

import { ApiError, call } from "./api.js";
import { readEvents } from "./sse.js";
import { changed } from "./state.js";
import { toTokens } from "./tokens.js";

const HEADERS = {
    prefer: "queue-updates", // comments of the stream say the position in the queue
    "cache-control": "no-store", // an answer that was kept would come at once, and its speed say nothing
};
const SECOND = 1000;

/** Make the round that an answer fills. */
export const newRound = () => ({
    text: "",
    reasoning: "",
    calls: [], // { id, name, arguments }
    results: {}, // by the id of the call, what the user says that the tool returned
    tokens: [], // with their probabilities, where these were asked for
    finish: null,
    error: null,
    usage: null,
    place: null, // in the queue, while it waits there
    firstSeconds: null,
    lastSeconds: null,
    seconds: null,
});

/** Ask, and fill `round` until the answer ends, fails or `signal` stops it; nothing is thrown. */
export async function ask(path, body, round, signal) {
    const began = performance.now();
    const clock = () => (performance.now() - began) / SECOND;
    try {
        const answer = await call(path, { method: "POST", body, headers: HEADERS, signal });
        for await (const event of readEvents(answer.body)) {
            take(event, round, clock);
            changed();
        }
        if (!round.finish) throw new ApiError("The stream broke off before the answer was finished");
    } catch (error) {
        if (signal.aborted) round.finish = "stopped";
        else round.error = error instanceof ApiError ? error.told : String(error);
    }
    round.place = null;
    round.seconds = clock();
    changed();
}

function take({ comment, data }, round, clock) {
    if (comment !== undefined) {
        round.place = comment.match(/^queue position=(\d+)/)?.[1] ?? round.place;
        return;
    }
    if (data === "[DONE]") return;
    const { error, choices = [], usage } = JSON.parse(data);
    if (error) throw new ApiError(error.message, error);
    if (usage) round.usage = usage;
    for (const choice of choices) takeChoice(choice, round, clock);
}

function takeChoice({ delta, text, logprobs, finish_reason: finish }, round, clock) {
    const content = text ?? delta?.content ?? "";
    const thought = delta?.reasoning_content ?? "";
    const calls = delta?.tool_calls ?? [];
    if (content || thought || calls.length) {
        round.place = null;
        round.firstSeconds ??= clock();
        round.lastSeconds = clock();
    }
    round.text += content;
    round.reasoning += thought;
    calls.forEach((call) => takeCall(call, round.calls));
    if (logprobs?.tokens) round.tokens.push(...toTokens(logprobs));
    if (finish) round.finish = finish;
}

function takeCall({ index, id, function: { name, arguments: more } }, calls) {
    const call = (calls[index] ??= { id: "", name: "", arguments: "" });
    call.id ||= id ?? "";
    call.name ||= name ?? "";
    call.arguments += more ?? "";
}

/** Return the tokens a second after the first one, or null where there is too little to say. */
export function pace({ usage, firstSeconds, lastSeconds }) {
    const more = (usage?.completion_tokens ?? 0) - 1;
    const seconds = lastSeconds - firstSeconds;
    return more > 0 && seconds > 0 ? more / seconds : null;
}
