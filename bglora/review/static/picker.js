// A dialog that asks for one of the scenes.

import { button, count, el } from "./markup.js";
import { pictureUrl, project } from "./store.js";

/**
 * Asks for a scene.
 * @param {string} question the dialog's title
 * @param {string[]} [without] scenes that are not offered
 * @returns {Promise<string|null>} a scene's id, or null where the person thought better of it
 */
export function chooseScene(question, without = []) {
  const scenes = project.state.scenes.filter((scene) => !without.includes(scene.id));
  return new Promise((resolve) => {
    let answer = null;
    const pick = (id) => {
      answer = id;
      dialog.close();
    };
    const find = el("input", { type: "search", "aria-label": "Find a scene", placeholder: "find", on: { input: () => sift() } });
    const items = scenes.map((scene) =>
      el("li", {}, button([cover(scene), el("span", {}, scene.title || scene.id), el("span", { class: "soft" }, count(scene.plates.length, "plate"))], () => pick(scene.id))),
    );
    const sift = () => {
      const wanted = find.value.toLowerCase();
      items.forEach((item, index) => {
        const { id, title } = scenes[index];
        item.hidden = !`${id} ${title}`.toLowerCase().includes(wanted);
      });
    };
    const dialog = el(
      "dialog",
      { class: "paper picker", "aria-label": question },
      el("h2", {}, question),
      scenes.length > 8 ? find : null,
      scenes.length ? el("ul", {}, items) : el("p", {}, "There is no other scene."),
      el("div", { class: "ends" }, button("Cancel", () => dialog.close())),
    );
    dialog.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      event.preventDefault();
      const open = items.filter((item) => !item.hidden).map((item) => item.firstChild);
      const at = open.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      open[Math.min(Math.max(at, 0), open.length - 1)]?.focus();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
    (items[0]?.firstChild ?? dialog.querySelector("button")).focus();
  });
}

function cover(scene) {
  const first = scene.plates.find((id) => project.state.plates[id]?.status === "made");
  return first ? el("img", { src: pictureUrl("plate", first, 320), alt: "", loading: "lazy" }) : el("span", { class: "no-cover" });
}
