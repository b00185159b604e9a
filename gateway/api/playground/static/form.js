// The form beside a conversation or a text: models, parameters, and the shape of the answer.

import { SHAPES } from "./parameters.js";
import { changed, state } from "./state.js";
import { html, live, nothing } from "./lit.js";

/** Show a choice among texts by value, under an id of its own. */
export function choiceField(id, label, choices, value, choose) {
    const option = ([name, text]) => html`<option value=${name} ?selected=${name === value}>${text}</option>`;
    return html`<div class="field">
        <label for=${id}>${label}</label>
        <select id=${id} .value=${live(value)} @change=${(event) => choose(event.target.value)}>
            ${Object.entries(choices).map(option)}
        </select>
    </div>`;
}

/** Show a choice among the models; `empty` is the text of the first option where there may be none. */
export function modelField(id, label, value, choose, empty) {
    const served = Object.fromEntries(state.models.map((model) => [model.id, model.id]));
    return choiceField(id, label, empty ? { "": empty, ...served } : served, value, choose);
}

/** Show a field for each parameter; what is written goes to `written`, and `heed` is told. */
export function parameterFields(form, written, heed) {
    const [first, others] = [form.filter((field) => field.isFirst), form.filter((field) => !field.isFirst)];
    const show = (field) => parameterField(field, written, heed);
    const more = others.length
        ? html`<details>
              <summary>More parameters (${others.length})</summary>
              ${others.map(show)}
          </details>`
        : nothing;
    return html`<fieldset>
        <legend>Parameters</legend>
        <p class="note">An empty field leaves the choice to the model.</p>
        ${first.map(show)}${more}
    </fieldset>`;
}

function parameterField(field, written, heed) {
    const { name, about } = field;
    const value = written[name] ?? "";
    const write = (event) => {
        written[name] = event.target.value;
        heed();
        changed();
    };
    return html`<div class="field">
        <label for="field-${name}"><code>${name}</code></label> ${control(field, value, write)}
        <p class="about" id="about-${name}">${about}</p>
    </div>`;
}

function control({ name, kind, minimum, maximum, values }, value, write) {
    const [id, about] = [`field-${name}`, `about-${name}`];
    if (kind === "boolean" || kind === "choice") {
        const options = ["", ...(kind === "boolean" ? ["true", "false"] : values)];
        return html`<select id=${id} aria-describedby=${about} .value=${live(value)} @change=${write}>
            ${options.map((option) => html`<option value=${option} ?selected=${option === value}>${option}</option>`)}
        </select>`;
    }
    if (kind === "number" || kind === "integer") {
        return html`<input
            id=${id}
            aria-describedby=${about}
            type="number"
            step=${kind === "integer" ? 1 : "any"}
            min=${minimum ?? nothing}
            max=${maximum ?? nothing}
            .value=${live(value)}
            @input=${write}
        />`;
    }
    const hints = { texts: "one a line; \\n is the end of a line", integers: "7, 42", json: "JSON" };
    return html`<textarea
        id=${id}
        aria-describedby=${about}
        rows=${kind === "text" ? 1 : 2}
        spellcheck="false"
        placeholder=${hints[kind] ?? ""}
        .value=${live(value)}
        @input=${write}
    ></textarea>`;
}

/** Show the shapes that the model can hold its answer to, and the text that says more about the chosen one. */
export function shapeFields(shape, capabilities, heed) {
    const able = Object.keys(SHAPES).filter((kind) => capabilities?.capabilities.includes(kind));
    if (!able.length) return nothing;
    const write = (part) => (text) => {
        shape[part] = text;
        heed();
        changed();
    };
    const { label, hint } = SHAPES[shape.kind] ?? {};
    const choices = { "": "any text", ...Object.fromEntries(able.map((kind) => [kind, SHAPES[kind].label])) };
    return html`<fieldset>
        <legend>Shape of the answer</legend>
        ${choiceField("shape", "Held to", choices, shape.kind, write("kind"))}
        ${hint ? textField(label, shape.text, write("text"), { rows: 5, hint }) : nothing}
    </fieldset>`;
}

/** Show an area for a longer text with its label. */
export function textField(label, value, write, { rows = 3, hint = "" } = {}) {
    return html`<label
        >${label}<textarea
            rows=${rows}
            placeholder=${hint}
            .value=${live(value)}
            @input=${(event) => write(event.target.value)}
        ></textarea>
    </label>`;
}
