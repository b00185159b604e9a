// Calls of the service that this page came from. Paths are relative to the page, so it works below a prefix, too.

import { askForKey, key } from "./key.js";

export class ApiError extends Error {
    constructor(message, { status = 0, code = "", param = null, id = "" } = {}) {
        super(message);
        Object.assign(this, { status, code, param, id });
    }

    /** Say all that is known in one line. */
    get told() {
        const about = [
            this.status || "",
            this.code,
            this.param && `parameter ${this.param}`,
            this.id && `request ${this.id}`,
        ];
        const known = about.filter(Boolean).join(", ");
        return known ? `${this.message} (${known})` : this.message;
    }
}

export const toUrl = (path) => new URL(path, document.baseURI).href;

let refusal = null; // `{ error, used }`, where the question for a key was not answered

/**
 * Call the API; throw `ApiError`. Where a key is needed, ask for it and try again; a `quiet` call does neither after
 * that question was left unanswered once. `takes` are statuses beside 2xx.
 */
export async function call(path, { method = "GET", body, headers = {}, signal, quiet = false, takes = [] } = {}) {
    for (;;) {
        const used = key();
        if (quiet && refusal?.used === used) throw refusal.error;
        const answer = await send(path, {
            method,
            signal,
            headers: { ...headers, ...toHeaders(used, body) },
            body: body && JSON.stringify(body),
        });
        if (answer.ok || takes.includes(answer.status)) return answer;
        const error = await toError(answer);
        if (answer.status !== 401) throw error;
        if (!(await askForKey(error.message, used))) {
            refusal = { error, used: key() };
            throw error;
        }
    }
}

export const read = async (path, options) => (await call(path, options)).json();

async function send(path, options) {
    try {
        return await fetch(toUrl(path), options);
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError("The service does not answer. Is it running, and can this machine reach it?");
    }
}

function toHeaders(used, body) {
    return { ...(used && { authorization: `Bearer ${used}` }), ...(body && { "content-type": "application/json" }) };
}

async function toError(answer) {
    const known = { status: answer.status, id: answer.headers.get("x-request-id") ?? "" };
    try {
        const { error } = await answer.json();
        return new ApiError(error.message, { ...known, code: error.code, param: error.param });
    } catch {
        return new ApiError(`The answer was ${answer.status} ${answer.statusText}`, known);
    }
}
