// Conversations: kept in this browser only, each under a name of its own, so that two tabs do not undo each other.

const PREFIX = "llm-gateway.conversation.";
const SETTINGS = "llm-gateway.settings";
const MOST = 100;
const LONGEST_TITLE = 48;

/** Make what a conversation is asked with. `written` holds the text of each parameter's field. */
const newSettings = () => ({
    models: ["", ""], // the second one is empty unless two are compared
    system: "",
    written: {},
    tools: "",
    toolChoice: "",
    shape: { kind: "", text: "" },
});

/** Make an empty conversation, set as the last one; its `turns` are `{ text, answers: [{ model, rounds }] }`. */
export function newConversation() {
    const settings = { ...newSettings(), ...parse(localStorage.getItem(SETTINGS)) };
    return { id: newId(), at: Date.now(), settings, turns: [] };
}

// `crypto.randomUUID` is there on pages from this machine and by HTTPS only.
const newId = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;

export const titleOf = (conversation) => {
    const text = conversation.turns[0]?.text.trim().replace(/\s+/g, " ") ?? "";
    return text.length > LONGEST_TITLE ? `${text.slice(0, LONGEST_TITLE)}…` : text || "New conversation";
};

/** List the kept conversations, the newest first. */
export function kept() {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
    const read = names.map((name) => parse(localStorage.getItem(name)));
    const whole = read.filter((conversation) => conversation.turns?.length);
    whole
        .flatMap(({ turns }) => turns)
        .flatMap(({ answers }) => answers)
        .forEach(({ rounds }) => rounds.forEach(end));
    return whole.sort((one, other) => other.at - one.at);
}

/** An answer that was being made when its page was closed will not go on. */
function end(round) {
    if (round.seconds === null) Object.assign(round, { seconds: 0, finish: "stopped" });
}

/** Keep a conversation; return why that failed, or an empty text. The oldest beyond a hundred go. */
export function keep(conversation) {
    try {
        localStorage.setItem(SETTINGS, JSON.stringify(conversation.settings));
        if (conversation.turns.length) localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
        kept().slice(MOST).forEach(forget);
        return "";
    } catch (error) {
        return `This browser does not keep the conversation: ${error.message}. Delete some of the others.`;
    }
}

export const forget = ({ id }) => localStorage.removeItem(PREFIX + id);

function parse(text) {
    try {
        return JSON.parse(text) ?? {};
    } catch {
        return {};
    }
}

/**
 * Write down what one model has read and said, as the messages of a request. Where there was no second column, the
 * first one was said to both.
 */
export function toMessages({ settings, turns }, column) {
    const system = settings.system.trim() ? [{ role: "system", content: settings.system }] : [];
    return [
        ...system,
        ...turns.flatMap((turn) => turnMessages(turn, (turn.answers[column] ?? turn.answers[0]).rounds)),
    ];
}

const turnMessages = ({ text }, rounds) => [{ role: "user", content: text }, ...rounds.flatMap(roundMessages)];

function roundMessages({ text, calls, results }) {
    if (!text && !calls.length) return []; // it failed, or has only begun
    const asked = calls.map(({ id, name, arguments: given }) => ({
        id,
        type: "function",
        function: { name, arguments: given },
    }));
    const said = { role: "assistant", content: text, ...(asked.length && { tool_calls: asked }) };
    return [said, ...calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: results[id] ?? "" }))];
}
