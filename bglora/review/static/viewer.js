// The viewer: one picture in full, compared, decided about, painted on, pointed at; the arrow keys go on.

import { Compare, LOOKS } from "./compare.js";
import { button, el, percent, put, say } from "./markup.js";
import { openPainting } from "./painting.js";
import { openPointing } from "./pointing.js";
import { becomes, onChange, plate, project, standing, titleOf } from "./store.js";
import { warn } from "./telling.js";
import { begun, giveUp, saveCaption, showCaption } from "./wording.js";

let dialog;
let compare;
let parts;
let order = [];
let id = null;
let on = {};
let work = null;

/** Whether the viewer is open. */
export function viewed() {
  return Boolean(dialog?.open);
}

/** Builds the viewer; once. */
export function buildViewer() {
  compare = new Compare();
  parts = {
    title: el("h2", {}),
    words: el("p", { class: "viewer-words", "aria-live": "polite" }),
    bench: el("div", { class: "bench" }, compare.element),
    keep: button("Keep", () => decide("keep"), { "aria-keyshortcuts": "k" }),
    drop: button("Drop", () => decide("drop"), { "aria-keyshortcuts": "d" }),
    retry: button("Try again", () => decide("retry"), { "aria-keyshortcuts": "r" }),
    paint: button("Paint the mask", () => begin(openPainting), { "aria-keyshortcuts": "p" }),
    point: button("Point out", () => begin(openPointing), { "aria-keyshortcuts": "o" }),
    caption: el("textarea", { rows: 2, "aria-label": "Caption", on: { input: () => begun(parts.caption), change: () => saveCaption(parts.caption) } }),
  };
  const arrows = [
    button("\u2190", () => go(-1), { "aria-label": "Picture before", title: "Picture before" }),
    button("\u2192", () => go(1), { "aria-label": "Next picture", title: "Next picture" }),
  ];
  parts.actions = el("div", { class: "actions" }, arrows, parts.keep, parts.drop, parts.retry, parts.paint, parts.point);
  parts.captioned = el("label", { class: "caption-box" }, el("span", { class: "soft" }, "Caption"), parts.caption);
  dialog = el(
    "dialog",
    { id: "viewer", "aria-label": "Picture" },
    el("div", { class: "viewer-head" }, parts.title, parts.words, button("\u00d7", () => shut(), { "aria-label": "Close", class: "plain" })),
    parts.bench,
    el("div", { class: "viewer-foot" }, parts.actions, parts.captioned),
  );
  dialog.addEventListener("keydown", pressed);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    shut();
  });
  dialog.addEventListener("close", () => {
    const last = id;
    id = null;
    on.closed?.(last);
  });
  document.body.append(dialog);
  onChange(() => viewed() && refresh());
  addEventListener("beforeunload", (event) => {
    if (work?.dirty()) event.preventDefault();
  });
}

/**
 * Shows a plate.
 * @param {string} first its id
 * @param {string[]} plates those before and after it
 * @param {{decide: Function, closed: Function, undo: Function}} listeners `decide(word, ids)`, `closed(id)`, `undo()`
 */
export function openViewer(first, plates, listeners) {
  order = [...plates];
  on = listeners;
  if (!dialog.open) dialog.showModal();
  show(first);
  parts.actions.querySelector("button:nth-child(2)").focus();
}

function show(next) {
  id = next;
  compare.show(id);
  refresh();
}

function refresh() {
  const one = plate(id);
  if (!one) return shut();
  const stands = standing(one);
  say(parts.title, id);
  say(parts.words, inWords(one, stands));
  put(parts.keep, "aria-pressed", String(stands === "kept"));
  put(parts.drop, "aria-pressed", String(one.decision === "drop"));
  parts.retry.hidden = one.status === "made";
  const kinds = one.kinds || LOOKS;
  const points = ["sam2", "sam3"].includes(project.state.masks_backend);
  put(parts.paint, "disabled", !kinds.includes("mask"));
  put(parts.paint, "title", kinds.includes("mask") ? null : "There is no mask to paint on yet: run the pipeline up to segment");
  put(parts.point, "disabled", !points || !kinds.includes("frame"));
  put(parts.point, "title", points ? null : "sam2 and sam3 can be told who is meant: bglora set segment.backend sam2");
  parts.captioned.hidden = one.caption === null || one.caption === undefined;
  showCaption(parts.caption, id);
}

function inWords(one, stands) {
  const scene = project.sceneOf.get(id);
  const words = [scene ? titleOf(scene) : "in no scene", becomes(id) === null ? "" : `goes to ${becomes(id)}`];
  words.push(one.decision ? `${stands} by you` : stands === "made" ? "" : stands);
  if (one.reason) words.push(one.status === "made" ? `not in the dataset: ${one.reason}` : one.reason);
  const shares = [["recovered", "recovered"], ["guessed", "guessed"], ["untrusted", "not trusted"]];
  for (const [key, name] of shares) if (one[key] > 0) words.push(`${percent(one[key])} ${name}`);
  if ((one.edited || []).length) words.push(`edited by hand: ${one.edited.join(", ")}`);
  return words.filter(Boolean).join(" \u00b7 ");
}

function go(by) {
  if (work) return;
  const next = order[order.indexOf(id) + by];
  if (next && plate(next)) show(next);
}

function decide(word) {
  on.decide(word, [id]);
}

async function begin(opening) {
  if (work) return;
  const of = id;
  try {
    const opened = await opening(of, () => end());
    if (!viewed() || id !== of) return;
    work = opened;
  } catch {
    warn(`The frame of ${of} can't be shown.`, "Is frames/ still there?");
    return;
  }
  dialog.classList.add("working");
  parts.bench.replaceChildren(work.element);
  work.easel.stack.focus();
}

function end() {
  if (work?.dirty() && !confirm("What you drew is not saved. Leave it?")) return;
  work = null;
  dialog.classList.remove("working");
  parts.bench.replaceChildren(compare.element);
  compare.show(id);
  parts.paint.focus();
}

function shut() {
  if (work) end();
  else if (dialog.open) dialog.close();
}

const KEYS = {
  ArrowLeft: () => go(-1),
  ArrowRight: () => go(1),
  k: () => decide("keep"),
  d: () => decide("drop"),
  r: () => decide("retry"),
  p: () => parts.paint.disabled || begin(openPainting),
  o: () => parts.point.disabled || begin(openPointing),
  u: () => on.undo(),
  c: () => parts.caption.offsetParent && parts.caption.focus(),
  "[": () => compare.nudge(-5),
  "]": () => compare.nudge(5),
};

function pressed(event) {
  if (event.target === parts.caption) {
    if (event.key === "Escape") {
      giveUp(parts.caption);
      parts.keep.focus();
      event.preventDefault();
    } else if (event.key === "Enter") {
      event.preventDefault();
      saveCaption(parts.caption);
      parts.keep.focus();
    }
    event.stopPropagation();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && event.key === "z") {
    event.preventDefault();
    event.stopPropagation();
    if (work) work.undo();
    else on.undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (work) {
    if (event.target.type !== "range" && work.key(event)) event.preventDefault();
    event.stopPropagation();
    return;
  }
  const look = LOOKS[["1", "2", "3", "4"].indexOf(event.code.replace("Digit", ""))];
  if (look) compare.set(event.shiftKey ? "left" : "right", look);
  else if (KEYS[event.key] && !(event.target.type === "range" && event.key.startsWith("Arrow"))) KEYS[event.key]();
  else return;
  event.preventDefault();
  event.stopPropagation();
}
