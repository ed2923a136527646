// The page: which view is seen, what keys do, and where the server's news go.

import { buildCaptions, showCaptions } from "./captions.js";
import { buildHelp, openHelp, singleKeys } from "./help.js";
import { buildLoras, showLoras } from "./loras.js";
import { put, say } from "./markup.js";
import { buildPlates, platesKey, showPlates } from "./plates.js";
import { buildRunning, busy, heardRun, runByKey, showRunning } from "./running.js";
import { buildScenes, scenesKey, showScenes } from "./scenes.js";
import { onChange, project } from "./store.js";
import { calm } from "./telling.js";
import { buildViewer, viewed } from "./viewer.js";
import { listen, reload, undo } from "./wire.js";

const VIEWS = ["plates", "scenes", "captions", "loras"];
const place = (id) => document.getElementById(id);
let view = "plates";

function open(name, scene = null) {
  const hash = `#${name}${scene ? `/${encodeURIComponent(scene)}` : ""}`;
  if (location.hash !== hash) location.hash = hash;
  route(); // at once: the next key is meant for what is seen then
}

/** Shows what the address's hash names: `#captions/scene-00`. */
function route() {
  const [name, scene] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const before = view;
  view = VIEWS.includes(name) ? name : "plates";
  for (const each of VIEWS) {
    place(each).hidden = each !== view;
    put(document.querySelector(`.views a[href="#${each}"]`), "aria-current", each === view ? "page" : null);
  }
  if (before !== view) {
    scrollTo(0, 0);
    calm();
  }
  show(scene || null);
}

function show(scene = null) {
  if (!project.state) return;
  if (view === "plates") showPlates(scene ? { by: "scene", group: scene, filter: "all" } : {});
  if (view === "scenes") showScenes();
  if (view === "captions") showCaptions(scene);
  if (view === "loras") showLoras(scene);
}

function showUndo() {
  const { undo } = project.state;
  put(place("undo"), "disabled", !undo);
  put(place("undo"), "title", undo ? `Undo: ${undo}` : "There is nothing to undo");
  put(place("undo"), "aria-label", undo ? `Undo: ${undo}` : "Undo");
  say(place("undo-what"), undo || "");
}

function typing(target) {
  return target.closest("textarea, select, [contenteditable]") || (target.closest("input") && !["range", "checkbox"].includes(target.type));
}

function pressed(event) {
  if (event.defaultPrevented || !project.state) return;
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "Enter") runByKey();
    else if (event.key === "z" && !typing(event.target) && !viewed()) undo();
    else if (event.key === "a" && view === "plates" && !typing(event.target) && !viewed()) platesKey({ key: "a", target: event.target });
    else return;
    event.preventDefault();
    return;
  }
  if (event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key.length === 1 && event.key !== " " && event.key !== "?" && !singleKeys()) return;
  if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
  const number = ["1", "2", "3", "4"].indexOf(event.key);
  if (event.key === "?") openHelp();
  else if (number >= 0) open(VIEWS[number]);
  else if (event.key === "u") undo();
  else if (view === "plates" && platesKey(event)) { /* it did */ }
  else if (view === "scenes" && scenesKey(event)) { /* it did */ }
  else return;
  event.preventDefault();
}

async function begin() {
  buildViewer();
  buildHelp();
  buildPlates(place("plates"));
  buildScenes(place("scenes"), open);
  buildCaptions(place("captions"), open);
  buildLoras(place("loras"), open);
  buildRunning(place("running"));
  place("undo").addEventListener("click", undo);
  place("show-help").addEventListener("click", openHelp);
  addEventListener("hashchange", route);
  addEventListener("keydown", pressed);
  onChange(() => {
    showUndo();
    showRunning();
    show();
  });
  route();
  if (await reload()) route();
  document.body.classList.add("ready");
  listen(heardRun, busy);
}

begin();
