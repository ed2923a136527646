// One plate of the gallery: its picture, its number, what was decided about it, and the buttons that decide.

import { el, put, say, percent } from "./markup.js";
import { becomes, pictureUrl, plate, project, standing, titleOf } from "./store.js";

const WIDTH = 320;

/** An empty cell; `fillCell` gives it a plate. */
export function makeCell() {
  return el(
    "div",
    { class: "cell", role: "gridcell", tabindex: -1, draggable: "true" },
    el(
      "div",
      { class: "thumb" },
      el("img", { alt: "", decoding: "async", draggable: "false" }),
      el("p", { class: "why", hidden: true }),
      el("button", { type: "button", class: "mark", "data-do": "choose", tabindex: -1, "aria-hidden": "true" }),
    ),
    el(
      "div",
      { class: "under" },
      el("b", {}),
      el("span", { class: "state" }),
      el("button", { type: "button", "data-do": "keep", tabindex: -1 }, "\u2713"),
      el("button", { type: "button", "data-do": "drop", tabindex: -1 }, "\u2715"),
    ),
  );
}

/** Shows a plate in a cell; null empties it. */
export function fillCell(cell, id, { cursor, chosen, column }) {
  cell.hidden = !id;
  if (!id) {
    cell.removeAttribute("data-id");
    return;
  }
  const one = plate(id);
  const stands = standing(one);
  const number = id.slice(id.lastIndexOf("/") + 1);
  const [thumb, under] = cell.children;
  const [picture, why] = thumb.children;
  const [name, state, keep, drop] = under.children;
  put(cell, "data-id", id);
  put(cell, "data-standing", stands);
  put(cell, "aria-colindex", column + 1);
  put(cell, "aria-selected", String(chosen));
  put(cell, "tabindex", cursor ? 0 : -1);
  put(cell, "aria-label", [`Plate ${id}`, ...inWords(id, one, stands), chosen ? "selected" : ""].filter(Boolean).join(", "));
  cell.classList.toggle("cursor", cursor);

  const nothing = one.status !== "made" && stands !== "kept";
  const url = nothing ? "" : pictureUrl("plate", id, WIDTH);
  if (picture.dataset.url !== url) {
    picture.dataset.url = url;
    picture.removeAttribute("src");
  }
  picture.hidden = nothing;
  why.hidden = !nothing;
  say(why, nothing ? `${one.status}${one.reason ? `: ${one.reason}` : ""}` : "");
  say(name, number);
  say(state, shortly(id, one, stands));
  for (const [button, word, on] of [[keep, "Keep", stands === "kept"], [drop, "Drop", one.decision === "drop"]]) {
    put(button, "aria-label", `${word} ${id}`);
    put(button, "title", word);
    put(button, "aria-pressed", String(on));
  }
}

/** Starts a cell's picture where it is not on its way already. */
export function loadCell(cell) {
  const picture = cell.querySelector("img");
  if (picture.dataset.url && !picture.hasAttribute("src")) picture.src = picture.dataset.url;
}

function shortly(id, one, stands) {
  if (stands === "kept" || (stands === "dropped" && one.decision)) return stands;
  if (becomes(id) !== null) return `\u2192 ${becomes(id)}`;
  if ((one.edited || []).length) return "edited";
  const unsure = (one.guessed || 0) + (one.untrusted || 0);
  return one.status === "made" && unsure >= 0.005 ? `${Math.round(unsure * 100)} % guessed` : "";
}

function inWords(id, one, stands) {
  const scene = project.sceneOf.get(id);
  const words = [stands === "made" ? "" : stands, one.reason || "", scene ? titleOf(scene) : ""];
  if (becomes(id) !== null) words.push(`goes to ${becomes(id)}`);
  if (one.guessed) words.push(`${percent(one.guessed)} guessed`);
  if ((one.edited || []).length) words.push(`edited by hand: ${one.edited.join(" and ")}`);
  return words;
}
