// Tokens with their probabilities, from the log-probabilities of `/v1/completions`.

/** Return `{ text, probability, others: [{ text, probability }] }` for each token; a first token has no probability. */
export function toTokens({ tokens, token_logprobs: logprobs, top_logprobs: tops }) {
    return tokens.map((text, at) => ({
        text: toText(text),
        probability: toProbability(logprobs[at]),
        others: Object.entries(tops?.[at] ?? {})
            .map(([other, logprob]) => ({ text: toText(other), probability: toProbability(logprob) }))
            .sort((one, other) => other.probability - one.probability),
    }));
}

const toProbability = (logprob) => (logprob === null || logprob === undefined ? null : Math.exp(logprob));

/** A part of a character is told by its bytes, as `bytes:\xe2\x80`: show these, for no text can. */
const toText = (text) =>
    text.startsWith("bytes:\\x") ? `⟨${text.slice("bytes:\\x".length).split("\\x").join(" ")}⟩` : text;

/** Say in one of five words how likely a token was; the style sheet has a colour for each. */
export function toLikelihood(probability) {
    if (probability === null) return "unknown";
    if (probability >= 0.9) return "sure";
    if (probability >= 0.5) return "likely";
    return probability >= 0.1 ? "open" : "unlikely";
}

export const toPercent = (probability) =>
    probability === null ? "unknown" : `${(100 * probability).toFixed(probability < 0.1 ? 2 : 1)} %`;
