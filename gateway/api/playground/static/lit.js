// What the views use of lit-html.

export { html, nothing, render, svg } from "./vendor/lit-html/lit-html.js";
export { guard } from "./vendor/lit-html/directives/guard.js";
export { live } from "./vendor/lit-html/directives/live.js";
export { repeat } from "./vendor/lit-html/directives/repeat.js";
