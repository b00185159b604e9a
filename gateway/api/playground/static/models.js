// The models of the service, and what each of them honours.

import { read } from "./api.js";
import { changed, state } from "./state.js";

const FIELDS = new URL("fields.json", import.meta.url);
let reading = {}; // promises, by model

/** Read the models and the fields of their parameters; what each model can do is read anew when it is asked for. */
export async function readModels() {
    try {
        const [{ data }, fields] = await Promise.all([read("v1/models"), read(FIELDS)]);
        Object.assign(state, { models: data, fields, capabilities: {} });
        reading = {};
        state.trouble = data.length ? null : "No model is loaded.";
    } catch (error) {
        state.trouble = error.told ?? String(error);
    }
    changed();
}

/** Return what a model honours; undefined until that is read. */
export function capabilitiesOf(model) {
    if (model) void readCapabilities(model);
    return state.capabilities[model];
}

/** Have what a model honours read, once. */
export function readCapabilities(model) {
    reading[model] ??= readOnce(model);
    return reading[model];
}

async function readOnce(model) {
    try {
        state.capabilities[model] = await read(`v1/models/${model}/capabilities`);
    } catch (error) {
        state.trouble = error.told ?? String(error);
    }
    changed();
}

/** Return the model of this name, or the first one where there is none. */
export const known = (name) => (state.models.some(({ id }) => id === name) ? name : (state.models[0]?.id ?? ""));

/** Tell whether a model can do this; of one that is not read yet nothing is known. */
export const can = (capabilities, what) => Boolean(capabilities?.capabilities.includes(what));
