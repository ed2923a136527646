// The view of all plates: by shot or by scene, with a filter, the keys, and what they do.

import { dragPlates } from "./dragging.js";
import { Gallery } from "./gallery.js";
import { button, count, el, labeled, put, say } from "./markup.js";
import { chooseScene } from "./picker.js";
import { remembered, remember } from "./memory.js";
import { Selection } from "./selection.js";
import { groups, platesAmong, project, shortest } from "./store.js";
import { sceneList } from "./scenelist.js";
import { whisper } from "./telling.js";
import { openViewer, viewed } from "./viewer.js";
import { act, undo } from "./wire.js";

const FILTERS = [
  ["all", "all"], ["undecided", "undecided"], ["kept", "kept by you"], ["dropped", "dropped"],
  ["failed", "failed"], ["guessed", "much guessed"], ["edited", "edited by hand"],
];

let by = remembered("by", "shot");
let filter = "all";
let selection;
let gallery;
let parts;

/** Builds the view into its section. */
export function buildPlates(section) {
  selection = new Selection(selectionChanged);
  const host = el("div", { class: "gallery", role: "grid", "aria-label": "Plates", "aria-multiselectable": "true" });
  parts = { empty: el("p", { class: "empty", hidden: true }), ...tools(), list: sceneList({ onMove: moveTo, onSplit: splitOff, open: openScene }) };
  section.replaceChildren(
    el("h2", { class: "unseen" }, "Plates"),
    parts.bar,
    el("div", { class: "with-side" }, el("div", { class: "wide" }, parts.empty, host), parts.list.element),
    chosenBar(),
  );
  gallery = new Gallery(host, selection, { open: look, decide });
  dragPlates(host, selection);
  addEventListener("scroll", () => requestAnimationFrame(followScroll), { passive: true });
  setSize(Number(remembered("size", "180")));
}

function tools() {
  const option = ([value, words]) => el("option", { value }, words);
  const shots = button("By shot", () => setBy("shot"), { "aria-pressed": "true" });
  const scenes = button("By scene", () => setBy("scene"), { "aria-pressed": "false" });
  const show = el("select", { on: { change: () => { filter = show.value; showPlates(); } } }, FILTERS.map(option));
  const jump = el("select", { on: { change: () => gallery.goTo(jump.value) } });
  const size = el("input", { type: "range", min: 110, max: 420, step: 10, on: { input: () => setSize(Number(size.value)) } });
  const bar = el(
    "div",
    { class: "tools", role: "toolbar", "aria-label": "How plates are shown" },
    el("div", { class: "either" }, shots, scenes),
    labeled("show", show),
    labeled("go to", jump, { class: "jump" }),
    labeled("size", size, { class: "size" }),
    el("p", { class: "soft tally", id: "tally" }),
  );
  return { bar, shots, scenes, show, jump, size };
}

function chosenBar() {
  const does = (words, what, key) => button(words, what, { "aria-keyshortcuts": key });
  parts.chosenCount = el("span", {});
  parts.chosen = el(
    "div",
    { class: "chosen", hidden: true, role: "toolbar", "aria-label": "What to do with the selected plates" },
    parts.chosenCount,
    does("Keep", () => decide("keep", selection.meant()), "k"),
    does("Drop", () => decide("drop", selection.meant()), "d"),
    does("Move to\u2026", () => pickScene(), "m"),
    does("New scene", () => splitOff(selection.meant()), "n"),
    does("Clear", () => selection.clear(), "Escape"),
  );
  return parts.chosen;
}

/** Shows the state's plates; called after every change of the state while the view is seen. */
export function showPlates(wanted = {}) {
  if (wanted.by) by = wanted.by;
  if (wanted.filter !== undefined) filter = wanted.filter;
  const shown = groups(by, filter);
  const first = Object.values(project.state.plates)[0];
  put(parts.shots, "aria-pressed", String(by === "shot"));
  put(parts.scenes, "aria-pressed", String(by === "scene"));
  parts.show.value = filter;
  fillJump(shown);
  const held = gallery.host.contains(document.activeElement);
  gallery.show(shown, first && first.height ? first.width / first.height : 16 / 9);
  parts.empty.hidden = selection.order.length > 0;
  say(parts.empty, Object.keys(project.state.plates).length ? "No plate is so." : "There are no plates yet: run the pipeline up to inpaint.");
  say(document.getElementById("tally"), platesAmong(selection.order));
  parts.list.show();
  selectionShown();
  if (held) gallery.cellOf(selection.cursor)?.focus({ preventScroll: true });
  if (wanted.group) gallery.goTo(wanted.group);
}

function fillJump(shown) {
  const names = shown.map((group) => group.id).join("\n");
  if (parts.jumpNames === names + by) return;
  parts.jumpNames = names + by;
  parts.jump.replaceChildren(...shown.map((group) => el("option", { value: group.id }, group.title)));
}

function followScroll() {
  if (!gallery.host.offsetParent) return;
  const group = gallery.groupAtTop();
  if (group && document.activeElement !== parts.jump) parts.jump.value = group.id;
}

function setBy(value) {
  by = value;
  remember("by", by);
  showPlates();
  gallery.reveal(false);
}

function setSize(pixels) {
  gallery.size = pixels;
  parts.size.value = pixels;
  remember("size", String(pixels));
  gallery.layOut(true);
}

function selectionChanged() {
  gallery.refresh();
  selectionShown();
}

function selectionShown() {
  const number = selection.chosen.size;
  parts.chosen.hidden = !number;
  say(parts.chosenCount, `${number} selected`);
  document.body.classList.toggle("choosing", number > 0);
}

/** Keeps, drops or retries plates, with whole shots by their pattern. */
export function decide(word, ids) {
  if (!ids.length) return;
  const decision = { keep: "keep", drop: "drop" }[word];
  act(word, { items: shortest(ids) }, (state) => {
    if (decision) for (const id of ids) state.plates[id].decision = decision;
  });
}

function splitOff(ids) {
  const parted = new Map();
  for (const id of ids) {
    const scene = project.sceneOf.get(id);
    if (scene) parted.set(scene, [...(parted.get(scene) || []), id]);
  }
  for (const [scene, plates] of parted) splitScene(scene, shortest(plates));
  if (parted.size) selection.clear();
  else whisper("Only plates of a scene can become a new scene.");
}

function splitScene(scene, plates) {
  act("split", { scene, plates }, (state) => state.decisions.push({ split: scene, plates }));
}

function moveTo(ids, scene) {
  const plates = shortest(ids);
  act("move", { plates, scene }, (state) => state.decisions.push({ move: plates, into: scene }));
  selection.clear();
}

async function pickScene() {
  const ids = selection.meant();
  if (!ids.length) return;
  const scene = await chooseScene(`Move ${count(ids.length, "plate")} to`);
  if (scene) moveTo(ids, scene);
}

function openScene(id) {
  setBy("scene");
  gallery.goTo(id);
}

function look(id) {
  openViewer(id, selection.order, { decide, undo, closed: (last) => { selection.go(last); gallery.reveal(); } });
}

function wholeGroup(id) {
  return gallery.groups.find((group) => group.plates.includes(id))?.plates ?? [];
}

/** Moves by whole rows in what is seen, so that an arrow down lands below, over a group's end, too. */
function vertical(direction, range) {
  const rows = gallery.rows.rows;
  let index = gallery.rowOf.get(selection.cursor);
  if (index === undefined) return selection.step(direction, range);
  const column = rows[index].plates.indexOf(selection.cursor);
  do index += direction; while (rows[index] && rows[index].kind === "head");
  if (rows[index]) selection.go(rows[index].plates[Math.min(column, rows[index].plates.length - 1)], range);
}

function groupStep(direction) {
  const at = gallery.groups.findIndex((group) => group.plates.includes(selection.cursor));
  const next = gallery.groups[Math.min(Math.max(at + direction, 0), gallery.groups.length - 1)];
  if (next) selection.go(next.plates[0]);
}

const MOVES = {
  ArrowLeft: (event) => selection.step(-1, event.shiftKey),
  ArrowRight: (event) => selection.step(1, event.shiftKey),
  ArrowUp: (event) => vertical(-1, event.shiftKey),
  ArrowDown: (event) => vertical(1, event.shiftKey),
  PageUp: (event) => { for (let i = 0; i < 4; i += 1) vertical(-1, event.shiftKey); },
  PageDown: (event) => { for (let i = 0; i < 4; i += 1) vertical(1, event.shiftKey); },
  Home: (event) => selection.step(-1e9, event.shiftKey),
  End: (event) => selection.step(1e9, event.shiftKey),
  "[": () => groupStep(-1),
  "]": () => groupStep(1),
};

const DOES = {
  k: () => decide("keep", selection.meant()),
  d: () => decide("drop", selection.meant()),
  r: () => decide("retry", selection.meant()),
  K: () => decide("keep", wholeGroup(selection.cursor)),
  D: () => decide("drop", wholeGroup(selection.cursor)),
  x: () => selection.cursor && selection.toggle(selection.cursor),
  a: () => selection.toggleAll(wholeGroup(selection.cursor)),
  m: () => pickScene(),
  n: () => splitOff(selection.meant()),
  b: () => setBy(by === "shot" ? "scene" : "shot"),
  Enter: () => selection.cursor && look(selection.cursor),
  " ": () => selection.cursor && look(selection.cursor),
  Escape: () => selection.clear(),
};

/** A key in this view; true if it meant something. */
export function platesKey(event) {
  if (viewed()) return false;
  const move = MOVES[event.key];
  if (move) {
    move(event);
    gallery.reveal();
    return true;
  }
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, a, summary")) return false;
  if (!DOES[event.key]) return false;
  DOES[event.key](event);
  return true;
}
