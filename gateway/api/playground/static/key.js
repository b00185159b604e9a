// The API key: asked for when the service wants one, and kept for this tab only.

const NAME = "llm-gateway.key";
const NOTE = "It is kept for this tab only, and sent to this service only.";
let asking = null;

export const key = () => sessionStorage.getItem(NAME) ?? "";

/** Ask for a key in place of `used`, which was refused; resolve to whether there is another one now. */
export function askForKey(reason, used) {
    if (key() && key() !== used) return Promise.resolve(true);
    keep("");
    return changeKey(`${reason}. ${NOTE}`);
}

/** Ask for a key; resolve to whether there is another one than before. All that ask at once share one question. */
export function changeKey(reason = NOTE) {
    asking ??= ask(reason).finally(() => (asking = null));
    return asking;
}

function ask(reason) {
    const [dialog, form, text, cancel] = ["dialog", "form", "text", "cancel"].map(find);
    const before = key();
    find("reason").textContent = reason;
    dialog.showModal();
    return new Promise((resolve) => {
        form.onsubmit = (event) => {
            event.preventDefault();
            keep(text.value.trim());
            dialog.close();
        };
        cancel.onclick = () => dialog.close();
        dialog.onclose = () => {
            text.value = "";
            resolve(key() !== before);
        };
    });
}

const find = (part) => document.getElementById(`key-${part}`);

function keep(text) {
    if (text) sessionStorage.setItem(NAME, text);
    else sessionStorage.removeItem(NAME);
}
