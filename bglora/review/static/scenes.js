// The view of all scenes: rename in place, merge by dragging one on another, and the same by keys and a menu.

import { dragScene, dropHere } from "./dragging.js";
import { button, el, put, say } from "./markup.js";
import { chooseScene } from "./picker.js";
import { coverOf } from "./scenelist.js";
import { mergedInto, pictureUrl, project, sceneWords, titleOf } from "./store.js";
import { act } from "./wire.js";

let list;
let empty;
let go;
let shown = "";

/** Builds the view; `open(view, scene)` goes to another view. */
export function buildScenes(section, open) {
  go = open;
  list = el("ul", { class: "scene-cards" });
  empty = el("p", { class: "empty", hidden: true }, "There are no scenes yet: run the pipeline up to cluster.");
  section.replaceChildren(
    el("h2", { class: "unseen" }, "Scenes"),
    el("p", { class: "advice soft" }, "Drag one scene onto another to make one of the two. A title is changed by a click on it."),
    empty,
    list,
  );
}

export function showScenes() {
  const { scenes } = project.state;
  const ids = scenes.map((scene) => scene.id).join(" ");
  empty.hidden = scenes.length > 0;
  if (ids !== shown) list.replaceChildren(...scenes.map(card));
  shown = ids;
  scenes.forEach((scene, index) => fill(list.children[index], scene));
}

function card({ id }) {
  const title = el("h3", {}, button("", () => rename(node, id), { class: "title", title: "Rename" }));
  const node = el(
    "li",
    { class: "scene-card", draggable: "true", "data-scene": id },
    button([el("img", { alt: "", loading: "lazy", draggable: "false" }), el("img", { alt: "", loading: "lazy", draggable: "false" }), el("img", { alt: "", loading: "lazy", draggable: "false" })], () => go("plates", id), { class: "cover" }),
    title,
    el("p", { class: "soft" }),
    el(
      "div",
      { class: "scene-acts" },
      button("Plates", () => go("plates", id)),
      button("Captions", () => go("captions", id)),
      button("LoRA", () => go("loras", id)),
      button("Merge\u2026", () => mergeByMenu(id), { "aria-keyshortcuts": "m" }),
    ),
  );
  dragScene(node, id);
  dropHere(node, (what) => Boolean(what.scene) && what.scene !== id, (what) => merge(id, what.scene));
  return node;
}

function fill(node, scene) {
  const [cover, title, words, acts] = node.children;
  const made = scene.plates.filter((id) => project.state.plates[id]?.status === "made");
  const first = coverOf(scene);
  const others = made.filter((id) => id !== first);
  const pictures = [first, others[0], others[others.length - 1]];
  [...cover.children].forEach((image, index) => {
    image.hidden = !pictures[index];
    if (pictures[index]) put(image, "src", pictureUrl("plate", pictures[index], index ? 320 : 640));
  });
  put(cover, "aria-label", `Show the plates of ${titleOf(scene.id)}`);
  if (title.firstChild.tagName === "BUTTON") say(title.firstChild, titleOf(scene.id));
  const scale = scene.lora?.chosen?.scale || scene.lora?.recommended?.scale;
  say(words, sceneWords(scene, scene.trigger, scale ? `scale ${scale}` : ""));
  node.classList.toggle("going", mergedInto(scene.id) !== null);
  for (const one of acts.children) put(one, "aria-label", `${one.textContent}: ${titleOf(scene.id)}`);
}

function rename(node, id) {
  const heading = node.querySelector("h3");
  const field = el("input", { value: titleOf(id), "aria-label": `New title of ${titleOf(id)}`, maxlength: 120 });
  const again = (focus) => {
    if (!field.isConnected) return;
    heading.replaceChildren(button(titleOf(id), () => rename(node, id), { class: "title", title: "Rename" }));
    node.draggable = true;
    if (focus) heading.firstChild.focus();
  };
  const save = (focus) => {
    const title = field.value.trim();
    const changed = field.isConnected && title && title !== titleOf(id);
    if (changed) act("rename", { scene: id, title }, (state) => { state.scenes.find((scene) => scene.id === id).title = title; });
    again(focus);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault(); // else the same key press goes on to the button that takes the field's place
      if (event.key === "Enter") save(true);
      else again(true);
    }
    event.stopPropagation();
  });
  field.addEventListener("blur", () => save(false));
  node.draggable = false; // else the mouse would drag the card instead of choosing letters
  heading.replaceChildren(field);
  field.select();
}

function merge(into, other) {
  act("merge", { scenes: [into, other] }, (state) => state.decisions.push({ merge: [other], into }));
}

async function mergeByMenu(id) {
  const into = await chooseScene(`Make ${titleOf(id)} part of`, [id]);
  if (into) merge(into, id);
}

/** A key in this view; true if it meant something. */
export function scenesKey(event) {
  const node = event.target.closest(".scene-card");
  const cards = [...list.children];
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (step) {
    const next = cards[Math.min(Math.max(cards.indexOf(node) + step, 0), cards.length - 1)];
    next?.querySelector(".cover").focus();
    return Boolean(next);
  }
  if (!node) return false;
  const { scene } = node.dataset;
  if (event.key === "e" || event.key === "F2") rename(node, scene);
  else if (event.key === "m") mergeByMenu(scene);
  else if (event.key === "c") go("captions", scene);
  else if (event.key === "l") go("loras", scene);
  else return false;
  return true;
}
