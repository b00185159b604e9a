// The page: it chooses the view by the address, and draws it.

import { chatView } from "./chat.js";
import { offerColours } from "./colours.js";
import { completionView } from "./completion.js";
import { changeKey } from "./key.js";
import { html, render } from "./lit.js";
import { readModels } from "./models.js";
import { operateView, watch } from "./operate.js";
import { changed, drawWith, state } from "./state.js";

const VIEWS = { chat: chatView, completion: completionView, operate: operateView };
const NEAR = 40; // pixels from the end at which a reader is taken to follow it

const view = document.getElementById("view");

function draw() {
    const turns = document.getElementById("turns");
    const follows = turns && turns.scrollHeight - turns.scrollTop - turns.clientHeight < NEAR;
    const trouble = state.trouble
        ? html`<p class="error notice" role="alert">
              ${state.trouble} <button type="button" @click=${readModels}>Try again</button>
          </p>`
        : "";
    render(html`${trouble}${VIEWS[state.view]()}`, view);
    if (follows) turns.scrollTop = turns.scrollHeight;
}

function turnTo() {
    const name = location.hash.slice(1);
    if (name in VIEWS) state.view = name;
    for (const link of document.querySelectorAll("nav a")) {
        if (link.hash === `#${state.view}`) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
    }
    watch(state.view === "operate");
    changed();
}

document.getElementById("key").onclick = async () => {
    if (await changeKey()) await readModels();
};
view.replaceChildren();
offerColours();
drawWith(draw);
addEventListener("hashchange", turnTo);
turnTo();
await readModels();
