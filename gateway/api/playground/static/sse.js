// Server-Sent Events as the HTML standard defines them, from the body of an answer to a POST.

export class EventParser {
    #rest = "";
    #data = [];
    #event = "";

    /** Take a piece of the stream; yield what it completes: `{ event, data }`, or `{ comment }` for a line of one. */
    *feed(piece) {
        this.#rest += piece;
        let at = 0;
        for (;;) {
            const end = endOfLine(this.#rest, at);
            if (!end) break;
            yield* this.#line(this.#rest.slice(at, end.from));
            at = end.to;
        }
        this.#rest = this.#rest.slice(at);
    }

    *#line(line) {
        if (line === "") {
            if (this.#data.length) yield { event: this.#event || "message", data: this.#data.join("\n") };
            this.#data = [];
            this.#event = "";
            return;
        }
        const colon = line.indexOf(":");
        if (colon === 0) return void (yield { comment: line.slice(1).trim() });
        const name = colon < 0 ? line : line.slice(0, colon);
        const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (name === "data") this.#data.push(value);
        if (name === "event") this.#event = value;
    }
}

/** Find the end of the line that begins at `at`; a CR that is the last there is may be half of a CR LF. */
function endOfLine(text, at) {
    for (let from = at; from < text.length; from++) {
        if (text[from] === "\n") return { from, to: from + 1 };
        if (text[from] !== "\r") continue;
        if (from + 1 === text.length) return null;
        return { from, to: text[from + 1] === "\n" ? from + 2 : from + 1 };
    }
    return null;
}

/** Yield the events of a stream of bytes as they arrive; leaving the loop cancels the stream. */
export async function* readEvents(body) {
    const parser = new EventParser();
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    try {
        for (;;) {
            const { value, done } = await reader.read();
            if (done) return;
            yield* parser.feed(value);
        }
    } finally {
        await reader.cancel().catch(() => {});
    }
}
