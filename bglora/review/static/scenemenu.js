// Which scene a view is about: a menu with the ones before and after it.

import { button, count, el, put } from "./markup.js";
import { project } from "./store.js";

/** A menu of scenes; `show(id)` brings it up to date, `open(id)` is called for another one. */
export function sceneMenu(open) {
  const menu = el("select", { "aria-label": "Scene", on: { change: () => open(menu.value) } });
  const step = (by) => {
    const ids = project.state.scenes.map((scene) => scene.id);
    const next = ids[ids.indexOf(menu.value) + by];
    if (next) open(next);
  };
  const back = button("\u2190", () => step(-1), { "aria-label": "Scene before" });
  const on = button("\u2192", () => step(1), { "aria-label": "Next scene" });
  const about = el("span", { class: "soft" });
  let shown = "";

  const show = (id) => {
    const { scenes } = project.state;
    const names = JSON.stringify(scenes.map((scene) => [scene.id, scene.title]));
    if (names !== shown) menu.replaceChildren(...scenes.map((scene) => el("option", { value: scene.id }, scene.title || scene.id)));
    shown = names;
    menu.value = id ?? "";
    const at = scenes.findIndex((scene) => scene.id === id);
    put(back, "disabled", at <= 0);
    put(on, "disabled", at < 0 || at >= scenes.length - 1);
    const scene = scenes[at];
    about.textContent = scene ? [scene.id, count(scene.plates.length, "plate"), scene.trigger].filter(Boolean).join(" \u00b7 ") : "";
  };
  return { element: el("div", { class: "tools" }, back, menu, on, about), show };
}
