// The raw completion of a text: its tokens, each with how likely it was and what might have come in its place.

import { codeView } from "./code.js";
import { modelField, parameterFields, shapeFields } from "./form.js";
import { ask, newRound } from "./generation.js";
import { html, live, nothing } from "./lit.js";
import { can, capabilitiesOf, known, readCapabilities } from "./models.js";
import { TEXT, toForm, toShape, toValues } from "./parameters.js";
import { changed, state } from "./state.js";
import { toLikelihood, toPercent } from "./tokens.js";
import { facts } from "./turns.js";

const ALTERNATIVES = 5;
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

const asked = {
    model: "",
    prompt: "The capital of France is",
    written: { max_tokens: "32" },
    shape: { kind: "", text: "" },
};
let round = null;
let stopping = null;
let cursor = null; // the token that is looked at
let trouble = "";

function toBody() {
    const model = known(asked.model);
    const capabilities = capabilitiesOf(model);
    return {
        model,
        prompt: asked.prompt,
        stream: true,
        stream_options: { include_usage: true },
        ...(can(capabilities, "logprobs") && { logprobs: ALTERNATIVES }),
        ...toValues(toForm(capabilities, state.fields, TEXT), asked.written),
        ...toShape(asked.shape, capabilities),
    };
}

async function complete() {
    if (stopping || !asked.prompt) return;
    cursor = null;
    trouble = "";
    stopping = new AbortController();
    try {
        await readCapabilities(known(asked.model));
        const body = toBody();
        round = newRound();
        changed();
        await ask(TEXT.path, body, round, stopping.signal);
    } catch (error) {
        trouble = error.message;
    }
    stopping = null;
    changed();
}

const stop = () => stopping?.abort();

export function completionView() {
    const capabilities = capabilitiesOf(known(asked.model));
    const press = (event) => {
        if (event.key === "Escape") stop();
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void complete();
    };
    const write = (event) => {
        asked.prompt = event.target.value;
        changed();
    };
    return html`<div class="completion">
        <section class="talk" aria-labelledby="completion-title">
            <h2 id="completion-title">Complete a text</h2>
            <form
                @submit=${(event) => {
                    event.preventDefault();
                    void complete();
                }}
            >
                <label
                    >Text<textarea
                        rows="6"
                        placeholder="Control and Enter completes, Escape stops"
                        .value=${live(asked.prompt)}
                        @input=${write}
                        @keydown=${press}
                    ></textarea>
                </label>
                <div class="row">
                    ${
                        stopping
                            ? html`<button type="button" class="main" @click=${stop}>Stop</button>`
                            : html`<button
                                  type="submit"
                                  class="main"
                                  ?disabled=${!asked.prompt || !state.models.length}
                              >
                                  Complete
                              </button>`
                    }
                </div>
            </form>
            ${trouble ? html`<p class="error" role="alert">${trouble}</p>` : nothing}${round ? roundView() : nothing}
            ${codeView(TEXT.path, toBody)}
        </section>
        <form class="side settings" aria-label="Settings" @submit=${(event) => event.preventDefault()}>
            ${modelField("model", "Model", known(asked.model), (model) => {
                asked.model = model;
                changed();
            })}
            ${parameterFields(toForm(capabilities, state.fields, TEXT), asked.written, () => {})}
            ${shapeFields(asked.shape, capabilities, () => {})}
        </form>
    </div>`;
}

function roundView() {
    const isMaking = round.seconds === null;
    return html`<h3 id="answer-title">Answer</h3>
        ${round.tokens.length ? tokensView() : html`<p class="said" aria-busy=${String(isMaking)}>${round.text}</p>`}
        ${round.error ? html`<p class="error" role="alert">${round.error}</p>` : nothing}
        <p class=${isMaking ? "making" : "facts"}>
            ${isMaking ? (round.place ? `waiting, number ${round.place} …` : "writing …") : facts(round)}
        </p>`;
}

function tokensView() {
    const look = (at) => {
        cursor = at;
        changed();
    };
    const point = ({ target }) => target.dataset.at !== undefined && look(Number(target.dataset.at));
    const press = (event) => {
        const step = STEPS[event.key];
        if (step === undefined) return;
        event.preventDefault();
        look(Math.min(Math.max((cursor ?? (step > 0 ? -1 : 0)) + step, 0), round.tokens.length - 1));
    };
    return html`<div
            class="tokens"
            role="listbox"
            tabindex="0"
            aria-labelledby="answer-title"
            aria-describedby="tokens-note"
            aria-activedescendant=${cursor === null ? nothing : `token-${cursor}`}
            @pointerover=${point}
            @click=${point}
            @keydown=${press}
        >
            ${round.tokens.map(tokenView)}
        </div>
        <p class="note" id="tokens-note">Point at a token, or move with the arrow keys. ${legend()}</p>
        <div class="token" role="status">
            ${cursor === null || !round.tokens[cursor] ? nothing : detailView(round.tokens[cursor])}
        </div>`;
}

const legend = () =>
    ["sure", "likely", "open", "unlikely"].map((word) => html`<span class="key ${word}">${word}</span> `);

const tokenView = ({ text, probability }, at) =>
    html`<span
        role="option"
        id="token-${at}"
        data-at=${at}
        aria-selected=${String(at === cursor)}
        class=${toLikelihood(probability)}
        >${text}</span
    >`;

function detailView({ text, probability, others }) {
    const rows = others.map(
        (other) =>
            html`<tr>
                <td><code>${JSON.stringify(other.text)}</code></td>
                <td>${toPercent(other.probability)}</td>
            </tr>`,
    );
    return html`<p>
            <code>${JSON.stringify(text)}</code> had a probability of <strong>${toPercent(probability)}</strong>.
        </p>
        <table>
            <thead>
                <tr>
                    <th scope="col">might have come</th>
                    <th scope="col">probability</th>
                </tr>
            </thead>
            <tbody>
                ${rows}
            </tbody>
        </table>`;
}
