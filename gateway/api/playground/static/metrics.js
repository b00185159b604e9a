// Prometheus' text format, and figures of the last minutes from what was read of it at several times.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

/** Return the samples of an exposition by their names: lists of `{ labels, value }`. */
export function parse(text) {
    const found = new Map();
    for (const line of text.split("\n")) {
        const match = line.startsWith("#") ? null : LINE.exec(line);
        if (!match) continue;
        const [, name, inner = "", value] = match;
        const labels = Object.fromEntries([...inner.matchAll(LABEL)].map(([, label, raw]) => [label, unescape(raw)]));
        if (!found.has(name)) found.set(name, []);
        found.get(name).push({ labels, value: toNumber(value) });
    }
    return found;
}

const unescape = (raw) => raw.replace(/\\[n"\\]/g, (pair) => ESCAPED[pair]);
const toNumber = (text) => ({ "+Inf": Infinity, "-Inf": -Infinity })[text] ?? Number(text);

/** Add up the samples of a name whose labels `fits` accepts. */
export function total(found, name, fits = () => true) {
    return (found.get(name) ?? []).filter(({ labels }) => fits(labels)).reduce((sum, { value }) => sum + value, 0);
}

/** Return the sums of a histogram's buckets over all series, by their upper bounds. */
export function buckets(found, name) {
    const sums = new Map();
    for (const { labels, value } of found.get(`${name}_bucket`) ?? []) {
        const bound = toNumber(labels.le);
        sums.set(bound, (sums.get(bound) ?? 0) + value);
    }
    return sums;
}

const TTFT = "gen_ai_server_time_to_first_token_seconds";
const isFailure = ({ status }) => Number(status) >= 500;
const isRefusal = ({ status }) => Number(status) >= 400 && Number(status) < 500;

/** Keep what the charts need of one exposition, read at `time` in seconds. */
export function toSample(text, time) {
    const found = parse(text);
    return {
        time,
        firstTokens: buckets(found, TTFT),
        tokens: total(found, "llm_gateway_tokens_generated_total"),
        failures: total(found, "llm_gateway_requests_total", isFailure),
        refusals: total(found, "llm_gateway_requests_total", isRefusal),
        queue: total(found, "llm_gateway_queue_depth"),
        active: total(found, "llm_gateway_active_requests"),
        memory: byEngine(found, "llm_gateway_engine_memory_bytes"),
        cache: byEngine(found, "llm_gateway_kv_cache_used_tokens"),
    };
}

const byEngine = (found, name) =>
    Object.fromEntries((found.get(name) ?? []).map(({ labels, value }) => [labels.engine, value]));

/** Return the growth of a count a second; a count that fell began anew at 0. */
export function rate(earlier, later, count) {
    const seconds = later.time - earlier.time;
    const grown = later[count] - earlier[count];
    return seconds > 0 ? (grown < 0 ? later[count] : grown) / seconds : null;
}

/** Return the value below which a `share` of what came between two samples is, or null where nothing came. */
export function quantile(share, earlier, later) {
    const bounds = [...later.keys()].sort((one, other) => one - other);
    const isAnew = bounds.some((bound) => later.get(bound) < (earlier.get(bound) ?? 0));
    const counts = bounds.map((bound) => later.get(bound) - (isAnew ? 0 : (earlier.get(bound) ?? 0)));
    const wanted = share * (counts.at(-1) ?? 0);
    if (!wanted) return null;
    const at = counts.findIndex((count) => count >= wanted);
    const [low, before] = at ? [bounds[at - 1], counts[at - 1]] : [0, 0];
    if (bounds[at] === Infinity) return low;
    return low + ((bounds[at] - low) * (wanted - before)) / (counts[at] - before);
}
