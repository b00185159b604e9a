// What the page shows, and how it is told that this has changed: the views read it, the others write it.

export const state = {
    view: "chat",
    models: [],
    trouble: null, // why the models could not be read
    capabilities: {}, // by model
    fields: {}, // by path: the parameters of each route
};

let draw = () => {};
let isAsked = false;

export function drawWith(drawing) {
    draw = drawing;
}

/** Draw at the next frame; many changes before it cost one drawing. */
export function changed() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
        isAsked = false;
        draw();
    });
}
