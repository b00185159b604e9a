// A chart of the last minutes: lines over time, the latest figures as text beside it.

import { html, svg } from "./lit.js";

const [WIDTH, HEIGHT, TOP, LEFT] = [600, 150, 10, 60];

/** Show lines `{ name, points: [[time, value or null]] }` over `span` seconds that end at `now`. */
export function chart(title, unit, lines, now, span) {
    const most = niceAbove(Math.max(...lines.flatMap(({ points }) => points.map(([, value]) => value ?? 0)), 0));
    const x = (time) => LEFT + (WIDTH - LEFT) * (1 - (now - time) / span);
    const y = (value) => TOP + (HEIGHT - 2 * TOP) * (1 - value / most);
    const told = lines.map(({ name, points }) => `${name} ${toText(points.at(-1)?.[1], unit)}`);
    return html`<figure class="chart">
        <figcaption>
            ${title}
            <span class="legend"
                >${lines.map(({ name }, at) => html`<span class="line-${at}">${told[at] ?? name}</span>`)}</span
            >
        </figcaption>
        <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}: now ${told.join(", ")}">
            ${[0, most / 2, most].map(
                (value) => svg`<line class="grid" x1=${LEFT} x2=${WIDTH} y1=${y(value)} y2=${y(value)}></line>
        <text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${toText(value, unit)}</text>`,
            )}
            ${lines.map(({ points }, at) =>
                pieces(points).map(
                    (piece) => svg`<polyline class="line-${at}"
        points=${piece.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ")}></polyline>`,
                ),
            )}
        </svg>
    </figure>`;
}

/** Cut a line where there was nothing to measure; a single point is drawn as a short line. */
function pieces(points) {
    const found = [[]];
    for (const point of points) {
        if (point[1] === null) found.push([]);
        else found.at(-1).push(point);
    }
    return found
        .filter((piece) => piece.length)
        .map((piece) => (piece.length > 1 ? piece : [piece[0], [piece[0][0] + 1, piece[0][1]]]));
}

/** Return the next of 1, 2, 5, 10, 20 … that is not below. */
export function niceAbove(value) {
    if (value <= 0) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return power * ([1, 2, 5].find((step) => step * power >= value) ?? 10);
}

export function toText(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "s") return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
    return `${Number(value.toPrecision(3))}${unit ? ` ${unit}` : ""}`;
}

export const toBytes = (bytes) => (bytes === undefined ? "–" : `${(bytes / 2 ** 20).toFixed(0)} MiB`);
