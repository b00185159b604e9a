// Markdown as templates: what a model writes is text in them, never markup, and no picture is fetched.

import { html, nothing } from "./lit.js";
import { lexer } from "./vendor/marked/marked.esm.js";

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };
const SAFE = /^(https?:|mailto:)/i;

/** Show a text that a model wrote. */
export const markdown = (text) => html`<div class="prose">${lexer(text).map(block)}</div>`;

const plain = (text) => text.replace(/&(amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity]);

const BLOCKS = {
    heading: ({ tokens }) => html`<p class="heading"><strong>${tokens.map(inline)}</strong></p>`,
    paragraph: ({ tokens }) => html`<p>${tokens.map(inline)}</p>`,
    blockquote: ({ tokens }) => html`<blockquote>${tokens.map(block)}</blockquote>`,
    code: ({ text, lang }) =>
        html`<pre tabindex="0" aria-label=${lang ? `Code, ${lang}` : "Code"}><code>${text}</code></pre>`,
    list: ({ ordered, start, items }) =>
        ordered
            ? html`<ol start=${start || 1}>
                  ${items.map(item)}
              </ol>`
            : html`<ul>
                  ${items.map(item)}
              </ul>`,
    table: ({ header, rows }) =>
        html`<div class="wide" tabindex="0" role="group" aria-label="Table">
            <table>
                <thead>
                    <tr>
                        ${header.map((cell) => html`<th scope="col">${cell.tokens.map(inline)}</th>`)}
                    </tr>
                </thead>
                <tbody>
                    ${rows.map(
                        (row) =>
                            html`<tr>
                                ${row.map((cell) => html`<td>${cell.tokens.map(inline)}</td>`)}
                            </tr>`,
                    )}
                </tbody>
            </table>
        </div>`,
    hr: () => html`<hr />`,
    space: () => nothing,
    def: () => nothing,
};

// What stands in an item of a list may be either.
const block = (token) => (BLOCKS[token.type] ?? inline)(token);

const item = ({ tokens, task, checked }) =>
    html`<li>${task ? (checked ? "☑ " : "☐ ") : nothing}${tokens.map(block)}</li>`;

const INLINES = {
    strong: ({ tokens }) => html`<strong>${tokens.map(inline)}</strong>`,
    em: ({ tokens }) => html`<em>${tokens.map(inline)}</em>`,
    del: ({ tokens }) => html`<del>${tokens.map(inline)}</del>`,
    codespan: ({ text }) => html`<code>${text}</code>`,
    br: () => html`<br />`,
    link: ({ href, tokens }) => (SAFE.test(href) ? link(href, tokens.map(inline)) : tokens.map(inline)),
    image: ({ href, text }) => (SAFE.test(href) ? link(href, plain(text || href)) : plain(text)),
    checkbox: () => nothing, // the item of its list shows it
    html: ({ raw }) => raw,
};

const link = (href, text) => html`<a href=${href} target="_blank" rel="noopener noreferrer">${text}</a>`;

function inline(token) {
    if (INLINES[token.type]) return INLINES[token.type](token);
    return token.tokens ? token.tokens.map(inline) : plain(token.text ?? token.raw);
}
