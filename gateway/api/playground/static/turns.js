// The turns of a conversation: what was asked, what each model answered, and what can be done about it.

import { guard, html, live, nothing } from "./lit.js";
import { markdown } from "./markdown.js";
import { pace } from "./generation.js";

const FINISHES = { length: "cut off: the limit of tokens is reached", stopped: "stopped", tool_calls: "calls tools" };

/** Show a turn; `actions` are `{ edit, retry, giveResults }`, or `null` while an answer is being made. */
export function turnView(turn, { isLast, columns, actions, editing }) {
    const answers = turn.answers
        .slice(0, columns)
        .map((answer, column) => answerView(turn, answer, column, isLast ? actions : null));
    return html`<li class="turn">
        <div class="question">
            <h3>You</h3>
            ${editing ? editView(editing) : html`<p class="said">${turn.text}</p>`}
            ${
                actions && !editing
                    ? html`<div class="row">
                          ${button("Edit", () => actions.edit(turn))}
                          ${isLast ? button("Try again", () => actions.retry(turn)) : nothing}
                      </div>`
                    : nothing
            }
        </div>
        <div class="answers">${answers}</div>
    </li>`;
}

const button = (label, press, kind = "") =>
    html`<button type="button" class=${kind} @click=${press}>${label}</button>`;

function editView({ text, write, send, leave }) {
    return html`<label
            >Edit the message<textarea
                rows="3"
                .value=${live(text)}
                @input=${(event) => write(event.target.value)}
            ></textarea>
        </label>
        <div class="row">
            ${button("Send", send, "main")}${button("Leave as it was", leave)}
        </div>`;
}

function answerView(turn, { model, rounds }, column, actions) {
    const give = () => actions.giveResults(turn, column);
    return html`<article class="answer" aria-label="Answer of ${model}">
        <h3>${model}</h3>
        ${rounds.map((round, at) => roundView(round, actions && at === rounds.length - 1 ? give : null))}
    </article>`;
}

function roundView(round, giveResults) {
    const isMaking = round.seconds === null;
    return html`${round.reasoning ? thoughtView(round) : nothing}
    ${round.text ? guard([round.text], () => markdown(round.text)) : nothing}
    ${round.calls.map((call) => callView(call, round, giveResults))}
    ${giveResults && round.calls.length ? button("Send results", giveResults, "main") : nothing}
    ${round.error ? html`<p class="error" role="alert">${round.error}</p>` : nothing}
    ${isMaking ? html`<p class="making">${waiting(round)}</p>` : html`<p class="facts">${facts(round)}</p>`}`;
}

const thoughtView = ({ reasoning }) =>
    html`<details class="thought">
        <summary>What it thought</summary>
        <p class="said">${reasoning}</p>
    </details>`;

function callView(call, round, giveResults) {
    const write = (event) => (round.results[call.id] = event.target.value);
    const result = giveResults
        ? html`<label
              >Result of ${call.name}<textarea
                  rows="2"
                  .value=${live(round.results[call.id] ?? "")}
                  @input=${write}
              ></textarea>
          </label>`
        : html`<p class="said">${round.results[call.id] ?? ""}</p>`;
    return html`<div class="call">
        <p>calls <code>${call.name}(${call.arguments})</code></p>
        ${result}
    </div>`;
}

const waiting = ({ place, firstSeconds }) => {
    if (firstSeconds !== null) return "writing …";
    return place ? `waiting, number ${place} in the queue …` : "reading …";
};

/** Say how an answer ended and how fast it was made. */
export function facts(round) {
    const { usage, firstSeconds, seconds, finish } = round;
    const speed = pace(round);
    const known = [
        FINISHES[finish],
        usage && `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
        firstSeconds !== null && `first after ${firstSeconds.toFixed(2)} s`,
        speed && `${speed.toFixed(1)} tokens/s`,
        seconds !== null && `${seconds.toFixed(2)} s in all`,
    ];
    return known.filter(Boolean).join(" · ");
}
