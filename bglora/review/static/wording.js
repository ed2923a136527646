// A plate's caption in a field: from the first letter on it is the writer's, and nothing he wrote is lost unseen.

import { patch, plate } from "./store.js";
import { warn, warnToo } from "./telling.js";
import { act } from "./wire.js";

/** Shows a plate's caption in the field, unless somebody writes there or what he wrote is not saved yet. */
export function showCaption(field, id) {
  if (field.dataset.id !== id) forget(field);
  field.dataset.id = id;
  const now = plate(id).caption ?? "";
  if (field.dataset.before === undefined && field.value !== now) field.value = now;
}

/** Somebody began to write; what the caption was then is remembered. */
export function begun(field) {
  field.dataset.before ??= plate(field.dataset.id).caption;
}

/** Gives up what was written. */
export function giveUp(field) {
  forget(field);
  field.value = plate(field.dataset.id)?.caption ?? "";
}

/** Saves what was written, unless the caption was changed meanwhile. What can't be saved stays in the field. */
export async function saveCaption(field) {
  const { id, before } = field.dataset;
  const text = field.value.trim().replace(/\s*\n\s*/g, " ");
  forget(field);
  const now = plate(id)?.caption;
  if (now === undefined || now === null || text === now) return;
  if (before !== undefined && before !== now) {
    field.value = now;
    warn("This caption was changed meanwhile, in another tab or by a run.", `Yours is not saved: ${text}`);
    return;
  }
  if (await act("caption", { plate: id, text }, (state) => { state.plates[id].caption = text; })) return;
  if (field.dataset.id === id && field.dataset.before === undefined) {
    field.value = text;
    field.dataset.before = now;
  }
  if (plate(id)?.caption === text) patch((state) => { state.plates[id].caption = now; });
  warnToo(`The caption of ${id} is not saved: ${text}`);
}

function forget(field) {
  delete field.dataset.before;
}
