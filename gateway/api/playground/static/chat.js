// The chat: conversations, their turns, and answers of one model or of two side by side.

import { codeView } from "./code.js";
import { forget, keep, kept, newConversation, titleOf, toMessages } from "./conversations.js";
import { choiceField, modelField, parameterFields, shapeFields, textField } from "./form.js";
import { ask, newRound } from "./generation.js";
import { html, live, nothing, repeat } from "./lit.js";
import { can, capabilitiesOf, known, readCapabilities } from "./models.js";
import { CHAT, toForm, toShape, toValues } from "./parameters.js";
import { changed, state } from "./state.js";
import { turnView } from "./turns.js";

const TOOLS = `[{"type": "function", "function": {"name": "get_weather", "description": "Say how the weather is.",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]`;

let current = newConversation();
let draft = "";
let stopping = null; // of the answers that are being made
let editing = null; // { turn, text }
let trouble = "";
let listed = kept();

const isServed = (name) => state.models.some(({ id }) => id === name);
const columns = () => (isServed(current.settings.models[1]) ? 2 : 1);
const modelOf = (column) => (column ? current.settings.models[1] : known(current.settings.models[0]));

/** Keep a conversation, and say so where that fails. */
function save(conversation) {
    trouble = keep(conversation);
    listed = kept();
}

/** Make the body of a request for one model: what was said so far, and behind it what is still to be sent. */
function toBody(conversation, column, model, text = "") {
    const { settings } = conversation;
    const capabilities = capabilitiesOf(model);
    const messages = toMessages(conversation, column);
    if (text) messages.push({ role: "user", content: text });
    return {
        model,
        messages,
        stream: true,
        stream_options: { include_usage: true },
        ...toValues(toForm(capabilities, state.fields, CHAT), settings.written),
        ...toShape(settings.shape, capabilities),
        ...(can(capabilities, "tools") && toTools(settings)),
    };
}

function toTools({ tools, toolChoice }) {
    if (!tools.trim()) return {};
    try {
        return { tools: JSON.parse(tools), ...(toolChoice && { tool_choice: toolChoice }) };
    } catch (error) {
        throw new Error(`tools: ${error.message}`);
    }
}

/** Have these columns of a turn answered, side by side. */
async function answer(turn, chosen) {
    const conversation = current;
    try {
        trouble = "";
        stopping = new AbortController();
        const models = chosen.map((column) => turn.answers[column].model);
        await Promise.all(models.map(readCapabilities));
        const bodies = chosen.map((column, at) => toBody(conversation, column, models[at]));
        const rounds = chosen.map((column) => {
            const round = newRound();
            turn.answers[column].rounds.push(round);
            return round;
        });
        changed();
        await Promise.all(rounds.map((round, at) => ask(CHAT.path, bodies[at], round, stopping.signal)));
    } catch (error) {
        trouble = error.message;
    }
    stopping = null;
    conversation.at = Date.now();
    if (!trouble) save(conversation);
    changed();
}

function send(text) {
    if (!text.trim() || stopping || !state.models.length) return;
    const chosen = [...Array(columns()).keys()];
    const turn = { text, answers: chosen.map((column) => ({ model: modelOf(column), rounds: [] })) };
    current.turns.push(turn);
    void answer(turn, chosen);
}

function sendDraft() {
    if (stopping || !draft.trim() || !state.models.length) return;
    const text = draft;
    draft = "";
    send(text);
}

/** Ask again from this turn on; what came after it goes. */
function resend(turn, text) {
    current.turns.splice(current.turns.indexOf(turn));
    editing = null;
    send(text);
}

const actions = {
    edit(turn) {
        editing = { turn, text: turn.text };
        changed();
    },
    retry: (turn) => resend(turn, turn.text),
    giveResults: (turn, column) => void answer(turn, [column]),
};

export function stop() {
    stopping?.abort();
}

function choose(conversation) {
    stop();
    current = conversation;
    editing = null;
    trouble = "";
    changed();
}

function remove(conversation) {
    forget(conversation);
    listed = kept();
    if (conversation.id === current.id) choose(newConversation());
    changed();
}

const heed = () => save(current);

export function chatView() {
    return html`<div class="chat">
        <details class="side list" ?open=${isWide()}>
            <summary>Conversations</summary>
            ${listView()}
        </details>
        <section class="talk" aria-labelledby="talk-title">
            <h2 id="talk-title">${titleOf(current)}</h2>
            <div
                class="turns"
                id="turns"
                role="log"
                aria-busy=${String(Boolean(stopping))}
                tabindex="0"
                aria-label="Conversation"
            >
                <ol>
                    ${current.turns.map(showTurn)}
                </ol>
            </div>
            ${trouble ? html`<p class="error" role="alert">${trouble}</p>` : nothing}${composerView()}
            ${codeView(CHAT.path, () => toBody(current, 0, modelOf(0), draft || example()))}
        </section>
        <details class="side" ?open=${isWide()}>
            <summary>Settings</summary>
            ${settingsView()}
        </details>
    </div>`;
}

// Read once: a window that is made narrow later keeps what its reader has opened.
const wide = matchMedia("(min-width: 64rem)").matches;
const isWide = () => wide;

const example = () => (current.turns.length ? "" : "Hello!");

function showTurn(turn) {
    return turnView(turn, {
        isLast: turn === current.turns.at(-1),
        columns: turn.answers.length,
        actions: stopping ? null : actions,
        editing: editing?.turn === turn && {
            text: editing.text,
            write: (text) => (editing.text = text),
            send: () => resend(turn, editing.text),
            leave: () => {
                editing = null;
                changed();
            },
        },
    });
}

function composerView() {
    const press = (event) => {
        if (event.key === "Escape") stop();
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        sendDraft();
    };
    const write = (event) => {
        draft = event.target.value;
        changed();
    };
    return html`<form
        class="composer"
        @submit=${(event) => {
            event.preventDefault();
            sendDraft();
        }}
    >
        <label for="draft">Message</label>
        <textarea
            id="draft"
            rows="3"
            placeholder="Enter sends, Shift and Enter begins a line, Escape stops"
            .value=${live(draft)}
            @input=${write}
            @keydown=${press}
        ></textarea>
        <div class="row">
            ${
                stopping
                    ? html`<button type="button" class="main" @click=${stop}>Stop</button>`
                    : html`<button type="submit" class="main" ?disabled=${!draft.trim() || !state.models.length}>
                          Send
                      </button>`
            }
        </div>
    </form>`;
}

function listView() {
    const show = (conversation) =>
        html`<li>
            <button
                type="button"
                class="link"
                aria-current=${conversation.id === current.id ? "true" : nothing}
                @click=${() => choose(conversation)}
            >
                ${titleOf(conversation)}
            </button>
            <button type="button" aria-label="Delete ${titleOf(conversation)}" @click=${() => remove(conversation)}>
                ×
            </button>
        </li>`;
    return html`<button type="button" @click=${() => choose(newConversation())}>New conversation</button>
        <ul>
            ${repeat(listed, ({ id }) => id, show)}
        </ul>
        <p class="note">They are kept in this browser only.</p>`;
}

function settingsView() {
    const { settings } = current;
    const capabilities = capabilitiesOf(modelOf(0));
    const set = (change) => {
        change();
        heed();
        changed();
    };
    const compare = (model) => set(() => (settings.models[1] = model));
    return html`<form class="settings" @submit=${(event) => event.preventDefault()}>
        ${modelField("model", "Model", modelOf(0), (model) => set(() => (settings.models[0] = model)))}
        ${modelField("compared", "Compare with", columns() > 1 ? settings.models[1] : "", compare, "no other")}
        ${textField("System prompt", settings.system, (text) => set(() => (settings.system = text)))}
        ${parameterFields(toForm(capabilities, state.fields, CHAT), settings.written, heed)}
        ${shapeFields(settings.shape, capabilities, heed)}
        ${can(capabilities, "tools") ? toolFields(settings, set) : nothing}
    </form>`;
}

function toolFields(settings, set) {
    const choices = { "": "as the model likes", required: "must call one", none: "may call none" };
    const write = (text) => set(() => (settings.tools = text));
    const pick = (choice) => set(() => (settings.toolChoice = choice));
    return html`<fieldset>
        <legend>Tools</legend>
        ${textField("Functions, as a JSON list", settings.tools, write, { rows: 5, hint: TOOLS })}
        <button type="button" @click=${() => write(TOOLS)}>Put in an example</button>
        ${choiceField("calls", "Calls", choices, settings.toolChoice, pick)}
    </fieldset>`;
}
