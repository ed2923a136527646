// The keys, on `?`; and whether single keys do anything at all, for those whose voice or tremor presses them unasked.

import { button, el } from "./markup.js";
import { remember, remembered } from "./memory.js";

const KEYS = [
  ["Everywhere", [
    ["1 2 3 4", "plates, scenes, captions, LoRAs"],
    ["u, Ctrl Z", "undo the last decision"],
    ["Ctrl Enter", "run"],
    ["?", "this help"],
  ]],
  ["Plates", [
    ["\u2190 \u2192 \u2191 \u2193", "move; with Shift, select a range"],
    ["[ ]", "shot or scene before, next"],
    ["k d r", "keep, drop, try again: the selected ones, or the one here"],
    ["Shift K, Shift D", "keep, drop the whole shot or scene"],
    ["x a Esc", "select, select the whole shot or scene, select nothing"],
    ["n m", "make a new scene of them, move them to a scene"],
    ["b", "by shot, by scene"],
    ["Enter", "look at it"],
  ]],
  ["A picture", [
    ["\u2190 \u2192", "picture before, next"],
    ["1 2 3 4", "frame, mask, plate, origin on the right; with Shift, on the left"],
    ["[ ]", "move the slider"],
    ["k d r c", "keep, drop, try again, write the caption"],
    ["p o", "paint the mask, point somebody out"],
  ]],
  ["Painting and pointing out", [
    ["o e b", "object, effect, background"],
    ["[ ]", "smaller, larger brush"],
    ["z s", "undo the stroke or point, save"],
    ["+ \u2212", "larger, smaller view"],
    ["arrows, Space", "without a mouse: move the cross, paint or point (Shift: not this)"],
    ["b, b", "pointing out: the two corners of a box"],
  ]],
  ["Scenes", [
    ["arrows", "move"],
    ["e m", "rename, merge with another"],
    ["c l", "its captions, its LoRA"],
  ]],
];

let dialog;

/** Whether single letters are keys; Ctrl, arrows and Enter always are. */
export function singleKeys() {
  return remembered("keys", "on") === "on";
}

export function buildHelp() {
  const box = el("input", { type: "checkbox", class: "switch", on: { change: () => remember("keys", box.checked ? "on" : "off") } });
  box.checked = singleKeys();
  const parts = KEYS.map(([title, keys]) =>
    el("section", {}, el("h3", {}, title), el("dl", {}, keys.map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)]))),
  );
  dialog = el(
    "dialog",
    { id: "help", class: "paper", "aria-label": "Keys" },
    el("h2", { tabindex: -1, autofocus: true }, "Keys"),
    el("div", { class: "help-parts" }, parts),
    el("label", { class: "switched" }, box, el("span", {}, "Single letters are keys")),
    el("div", { class: "ends" }, button("Close", () => dialog.close())),
  );
  document.body.append(dialog);
}

export function openHelp() {
  if (!dialog.open) dialog.showModal();
}
