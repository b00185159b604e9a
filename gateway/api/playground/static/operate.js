// The operator's view: engines, requests in flight, and charts of the last minutes. It reads while it is shown.

import { call, read } from "./api.js";
import { chart, toBytes, toText } from "./chart.js";
import { html, nothing, repeat } from "./lit.js";
import { quantile, rate, toSample } from "./metrics.js";
import { readModels } from "./models.js";
import { changed, state } from "./state.js";

const EVERY = 1000; // milliseconds
const SPAN = 300; // seconds that the charts show
const WINDOW = 10; // seconds over which quantiles are taken: fewer would have too few answers
const UNAVAILABLE = 503;

const seen = { health: null, requests: [], samples: [], troubles: {}, said: "", busy: new Set() };
let timer = null;
let turn = 0;

/** Begin to read, or stop it. */
export function watch(isShown) {
    clearInterval(timer);
    timer = isShown ? setInterval(look, EVERY) : null;
    if (isShown) void look();
}

async function look() {
    if (document.hidden) return;
    turn += 1;
    const reads = [note("engines", readHealth), note("requests", readRequests)];
    if (turn % 2) reads.push(note("metrics", readMetrics)); // the service renders them once a second at most
    await Promise.all(reads);
    changed();
}

async function note(part, reading) {
    try {
        await reading();
        delete seen.troubles[part];
    } catch (error) {
        seen.troubles[part] = error.told ?? String(error);
    }
}

async function readHealth() {
    seen.health = await read("v1/health", { takes: [UNAVAILABLE] });
}

async function readRequests() {
    seen.requests = (await read("v1/requests", { quiet: true })).data;
}

async function readMetrics() {
    const text = await (await call("v1/metrics", { quiet: true })).text();
    const now = performance.now() / 1000;
    seen.samples = [...seen.samples.filter(({ time }) => time >= now - SPAN), toSample(text, now)];
}

async function change(engine, what) {
    seen.busy.add(engine);
    seen.said = `${what === "load" ? "Loading" : "Unloading"} ${engine} …`;
    changed();
    try {
        const { seconds } = await read(`v1/models/${encodeURIComponent(engine)}/${what}`, { method: "POST" });
        seen.said = `${engine} is ${what}ed; it took ${seconds} s.`;
        await readModels();
    } catch (error) {
        seen.said = `${engine}: ${error.told}`;
    }
    seen.busy.delete(engine);
    await look();
}

async function cancel(id) {
    try {
        await call(`v1/requests/${id}`, { method: "DELETE" });
        seen.said = `Request ${id} is cancelled.`;
    } catch (error) {
        seen.said = error.told;
    }
    await look();
}

export function operateView() {
    return html`<div class="operate">
        <h2>Operate</h2>
        <p role="status" class="note">${seen.said}</p>
        <section aria-labelledby="engines-title">
            <h3 id="engines-title">Engines and models</h3>
            ${troubleView("engines")} ${seen.health ? enginesView(seen.health) : nothing}
        </section>
        <section aria-labelledby="requests-title">
            <h3 id="requests-title">Requests in flight</h3>
            ${troubleView("requests")} ${requestsView()}
        </section>
        <section aria-labelledby="charts-title">
            <h3 id="charts-title">The last five minutes</h3>
            ${troubleView("metrics")}
            <div class="charts">${chartsView()}</div>
        </section>
    </div>`;
}

const troubleView = (part) => (seen.troubles[part] ? html`<p class="error">${seen.troubles[part]}</p>` : nothing);

function enginesView({ status, version, uptime, engines }) {
    return html`<p>The service is <strong>${status}</strong>: version ${version}, up for ${toDuration(uptime)}.</p>
        ${table(
            "Engines",
            ["engine", "plugin", "state", "model", "context", "device", "runs", "waits", "memory", "cached tokens", ""],
            engines.map(engineRow),
        )}`;
}

function engineRow({ engine, plugin, status, detail, model, loaded, device, running, waiting, breaker }) {
    const card = state.models.find(({ id }) => id === model);
    const { memory = {}, cache = {} } = seen.samples.at(-1) ?? {};
    const [isBusy, what] = [seen.busy.has(engine), loaded ? "unload" : "load"];
    const left = breaker === "closed" ? "" : `, breaker ${breaker}`;
    return html`<tr>
        <th scope="row">${engine}</th>
        <td>${plugin}</td>
        <td>${status}${left}${detail ? html`<br /><small>${detail}</small>` : nothing}</td>
        <td>${model ?? "–"}</td>
        <td>${card?.context_window ?? "–"}</td>
        <td>${device ?? "–"} ${card?.dtype ?? ""}</td>
        <td>${running}</td>
        <td>${waiting}</td>
        <td>${toBytes(memory[engine])}</td>
        <td>${cache[engine] ?? "–"}</td>
        <td>
            <button type="button" ?disabled=${isBusy} @click=${() => change(engine, what)}>${what} ${engine}</button>
        </td>
    </tr>`;
}

function requestsView() {
    if (!seen.requests.length) return html`<p class="note">There are none.</p>`;
    const rows = repeat(seen.requests, ({ id }) => id, requestRow);
    return table("Requests", ["request", "model", "phase", "position", "for", "prompt", "tokens", "key", ""], rows);
}

function requestRow({ id, model, phase, position, eta, seconds, prompt_tokens: prompt, tokens, key }) {
    const place = position === null ? "–" : `${position}${eta === null ? "" : `, in ${toText(eta, "s")}`}`;
    return html`<tr>
        <th scope="row"><code>${id}</code></th>
        <td>${model}</td>
        <td>${phase}</td>
        <td>${place}</td>
        <td>${toText(seconds, "s")}</td>
        <td>${prompt ?? "–"}</td>
        <td>${tokens}</td>
        <td>${key ?? "–"}</td>
        <td><button type="button" aria-label="Cancel request ${id}" @click=${() => cancel(id)}>Cancel</button></td>
    </tr>`;
}

const table = (caption, heads, rows) =>
    html`<div class="wide" tabindex="0" role="group" aria-label=${caption}>
        <table>
            <thead>
                <tr>
                    ${heads.map((head) => (head ? html`<th scope="col">${head}</th>` : html`<td></td>`))}
                </tr>
            </thead>
            <tbody>
                ${rows}
            </tbody>
        </table>
    </div>`;

function chartsView() {
    const { samples } = seen;
    const now = samples.at(-1)?.time ?? 0;
    const each = (figure) => samples.slice(1).map((sample, at) => [sample.time, figure(sample, samples[at])]);
    const before = (sample) => samples.find(({ time }) => time >= sample.time - WINDOW);
    const firstToken = (share) => each((sample) => quantile(share, before(sample).firstTokens, sample.firstTokens));
    const growth = (count) => each((sample, earlier) => rate(earlier, sample, count));
    const draw = (title, unit, ...lines) =>
        chart(
            title,
            unit,
            lines.map(([name, points]) => ({ name, points })),
            now,
            SPAN,
        );
    return [
        draw("Time to first token", "s", ["half below", firstToken(0.5)], ["95 of 100 below", firstToken(0.95)]),
        draw("Tokens per second", "", ["tokens/s", growth("tokens")]),
        draw(
            "Requests",
            "",
            ["waiting", each(({ queue }) => queue)],
            ["running or waiting", each(({ active }) => active)],
        ),
        draw("Errors per second", "", ["5xx", growth("failures")], ["4xx", growth("refusals")]),
    ];
}

function toDuration(seconds) {
    const [days, hours, minutes] = [
        Math.floor(seconds / 86400),
        Math.floor(seconds / 3600) % 24,
        Math.floor(seconds / 60) % 60,
    ];
    if (days) return `${days} d ${hours} h`;
    return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
