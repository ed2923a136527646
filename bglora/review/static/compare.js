// Two looks at one picture, laid over each other with a slider between them.

import { el, put } from "./markup.js";
import { pictureUrl, plate } from "./store.js";
import { drawTint, loadPicture, maskValues } from "./tint.js";

const WIDTH = 1280;

export const LOOKS = ["frame", "mask", "plate", "provenance"];
const NAMES = { frame: "Frame", mask: "Mask", plate: "Plate", provenance: "Origin" };
const ABOUT = { provenance: "Where the plate's pixels come from", mask: "Characters in red, their shadows and reflections in amber" };

/** A comparison; `element` goes into the page, `show(id)` gives it a picture. */
export class Compare {
  constructor() {
    this.looks = { left: "frame", right: "plate" };
    this.id = null;
    this.sides = { left: el("div", { class: "side-look left" }), right: el("div", { class: "side-look right" }) };
    this.slider = el("input", {
      type: "range", min: 0, max: 100, step: 1, value: 50, class: "slider", "aria-label": "How much of the left look is seen",
      on: { input: () => this.slide(Number(this.slider.value)) },
    });
    this.line = el("div", { class: "slide-line", "aria-hidden": "true" });
    this.box = el("div", { class: "compare" }, this.sides.right, this.sides.left, this.line, this.slider);
    this.chosen = { left: this.menu("left", "Left"), right: this.menu("right", "Right") };
    this.element = el("div", { class: "compared" }, this.box, el("div", { class: "looks" }, this.chosen.left, this.chosen.right));
    this.slide(50);
    this.box.addEventListener("pointerdown", (event) => this.grab(event));
  }

  show(id) {
    this.id = id;
    const one = plate(id);
    const ratio = one.width && one.height ? one.width / one.height : 16 / 9;
    this.box.style.aspectRatio = String(ratio);
    this.box.style.setProperty("--ratio", String(ratio));
    for (const side of ["left", "right"]) this.fill(side);
  }

  /** Chooses what is seen on a side. */
  set(side, look) {
    this.looks[side] = look;
    this.fill(side);
  }

  /** Moves the border between the two, in percent of the width. */
  slide(percent) {
    const at = Math.min(Math.max(percent, 0), 100);
    this.slider.value = String(at);
    put(this.slider, "aria-valuetext", `${Math.round(at)} % ${NAMES[this.looks.left].toLowerCase()}`);
    this.sides.left.style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    this.line.style.left = `${at}%`;
  }

  nudge(by) {
    this.slide(Number(this.slider.value) + by);
  }

  menu(side, words) {
    const buttons = LOOKS.map((look) =>
      el("button", { type: "button", "data-look": look, title: ABOUT[look], on: { click: () => this.set(side, look) } }, NAMES[look]),
    );
    return el("div", { class: "look-menu", role: "group", "aria-label": `${words} look` }, el("span", { class: "soft" }, words), buttons);
  }

  fill(side) {
    const look = this.looks[side];
    for (const button of this.chosen[side].querySelectorAll("button")) {
      put(button, "aria-pressed", String(button.dataset.look === look));
    }
    this.slide(Number(this.slider.value));
    if (this.id) this.sides[side].replaceChildren(...layers(look, this.id));
  }

  grab(event) {
    if (event.button) return;
    event.preventDefault();
    this.slider.focus();
    const follow = (moved) => {
      const box = this.box.getBoundingClientRect();
      this.slide(((moved.clientX - box.left) / box.width) * 100);
    };
    follow(event);
    this.box.setPointerCapture(event.pointerId);
    const end = () => this.box.removeEventListener("pointermove", follow);
    this.box.addEventListener("pointermove", follow);
    this.box.addEventListener("pointerup", end, { once: true });
    this.box.addEventListener("pointercancel", end, { once: true });
  }
}

/** What one look consists of, bottom first. */
function layers(look, id) {
  const picture = (kind, alt, name = "") => {
    const image = el("img", { src: pictureUrl(kind, id, WIDTH), alt, class: name, draggable: "false" });
    image.addEventListener("error", () => image.replaceWith(el("p", { class: "absent" }, `There is no ${kind} of ${id}.`)));
    return image;
  };
  if (look === "frame") return [picture("frame", `Frame ${id}`)];
  if (look === "plate") return [picture("plate", `Plate ${id}, without characters`)];
  if (look === "provenance") {
    return [picture("plate", ""), picture("provenance", `Where the pixels of ${id} come from`, "pixels")];
  }
  const canvas = el("canvas", { class: "pixels", role: "img", "aria-label": `Mask of ${id}` });
  loadPicture(pictureUrl("mask", id, WIDTH)).then(
    (mask) => {
      canvas.width = mask.naturalWidth;
      canvas.height = mask.naturalHeight;
      const whole = { left: 0, top: 0, right: canvas.width, bottom: canvas.height };
      drawTint(canvas.getContext("2d"), maskValues(mask), whole);
    },
    () => canvas.replaceWith(el("p", { class: "absent" }, `There is no mask of ${id}.`)),
  );
  return [picture("frame", "", "gray"), canvas];
}
