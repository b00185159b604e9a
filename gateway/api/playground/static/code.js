// The request as code to paste.

import { key } from "./key.js";
import { html, nothing } from "./lit.js";
import { LANGUAGES } from "./snippets.js";
import { changed } from "./state.js";

let language = "curl";
let said = "";
let isOpen = false;

/** Show a request as code; `toBody` makes its body, and may throw an `Error` that says which field is wrong. */
export function codeView(path, toBody) {
    return html`<details
        class="code"
        @toggle=${(event) => {
            isOpen = event.target.open;
            changed();
        }}
    >
        <summary>This request as code</summary>
        <div class="row" role="group" aria-label="Language">
            ${Object.keys(LANGUAGES).map(languageButton)} <button type="button" @click=${copy}>Copy</button
            ><span role="status">${said}</span>
        </div>
        <pre tabindex="0" aria-label="Code"><code id="code">${isOpen ? written(path, toBody) : nothing}</code></pre>
    </details>`;
}

function languageButton(name) {
    const choose = () => {
        language = name;
        said = "";
        changed();
    };
    return html`<button type="button" aria-pressed=${name === language} @click=${choose}>${name}</button>`;
}

function written(path, toBody) {
    try {
        return LANGUAGES[language](path, toBody(), key() !== "");
    } catch (error) {
        return error.message;
    }
}

async function copy() {
    const code = document.getElementById("code");
    try {
        await navigator.clipboard.writeText(code.textContent);
        said = "Copied.";
    } catch {
        // Pages that come by plain HTTP from another machine have no clipboard.
        getSelection().selectAllChildren(code);
        said = "Selected: copy it with the keyboard.";
    }
    changed();
}
