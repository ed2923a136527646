// The scenes beside the gallery: where plates are dragged to.

import { dropHere } from "./dragging.js";
import { button, count, el, put, say } from "./markup.js";
import { mergedInto, pictureUrl, plate, project } from "./store.js";

/**
 * The list; `show()` brings it up to date.
 * @param {{onMove: Function, onSplit: Function, open: Function}} does `onMove(plates, scene)`, `onSplit(plates)`,
 *   `open(scene)`
 */
export function sceneList({ onMove, onSplit, open }) {
  const list = el("ul", {});
  const fresh = el("p", { class: "target", id: "new-scene" }, el("b", {}, "New scene"), el("span", { class: "soft" }, "drag plates here, or press n"));
  dropHere(fresh, (what) => Boolean(what.plates), (what) => onSplit(what.plates));
  const element = el("aside", { class: "side", "aria-label": "Scenes" }, el("h4", {}, "Scenes"), list, fresh);
  let shown = "";

  const item = (scene) => {
    const node = button(
      [picture(scene), el("span", { class: "side-name" }), el("span", { class: "soft side-count" })],
      () => open(scene.id),
      { "data-scene": scene.id, title: "Show its plates" },
    );
    const welcome = (what) => Boolean(what.plates) && what.plates.some((id) => project.sceneOf.get(id) !== scene.id);
    dropHere(node, welcome, (what) => onMove(what.plates, scene.id));
    return el("li", {}, node);
  };

  const show = () => {
    const { scenes } = project.state;
    const ids = scenes.map((scene) => scene.id).join(" ");
    if (ids !== shown) list.replaceChildren(...scenes.map(item));
    shown = ids;
    scenes.forEach((scene, index) => {
      const [image, name, number] = list.children[index].firstChild.children;
      const first = coverOf(scene);
      if (first) put(image, "src", pictureUrl("plate", first, 320));
      say(name, scene.title || scene.id);
      const into = mergedInto(scene.id);
      say(number, into ? `\u2192 ${into}` : count(scene.plates.length, "plate"));
    });
    element.hidden = !scenes.length;
  };
  return { element, show };
}

function picture() {
  return el("img", { alt: "", loading: "lazy", draggable: "false" });
}

/** The plate that stands for a scene: the first of those with the least guessed; null without a plate. */
export function coverOf(scene) {
  const made = scene.plates.filter((id) => plate(id)?.status === "made" && plate(id).decision !== "drop");
  const unsure = (id) => (plate(id).guessed || 0) + (plate(id).untrusted || 0);
  const least = Math.min(...made.map(unsure));
  const equals = made.filter((id) => unsure(id) <= least + 1e-9);
  return equals[equals.length >> 1] ?? null;
}
