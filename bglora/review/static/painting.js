// Painting on a frame's mask: who is in the picture, what he casts, and what is background.

import { Easel, ring } from "./easel.js";
import { base64, grayPng } from "./graypng.js";
import { button, el, labeled, put } from "./markup.js";
import { pictureUrl, plate } from "./store.js";
import { StrokedMask } from "./strokes.js";
import { warn, whisper } from "./telling.js";
import { BACKGROUND, drawTint, EFFECT, loadPicture, maskValues, OBJECT } from "./tint.js";
import { act } from "./wire.js";

const BRUSHES = [
  ["o", "Object", OBJECT, "somebody, or what he carries"],
  ["e", "Effect", EFFECT, "a shadow or a reflection of somebody"],
  ["b", "Background", BACKGROUND, "nobody: what the plate should show"],
];

/**
 * Opens the easel for a frame.
 * @param {string} id
 * @param {() => void} close called when the person is done
 * @returns {Promise<{element: Node, key: (event: KeyboardEvent) => boolean, dirty: () => boolean}>}
 */
export async function openPainting(id, close) {
  const easel = await Easel.open(id);
  const there = await loadPicture(pictureUrl("mask", id, 0)).then(
    (mask) => maskValues(mask, easel.width, easel.height),
    () => new Uint8Array(easel.width * easel.height), // a frame without a mask yet: everything is background
  );
  return new Painting(id, easel, new StrokedMask(there, easel.width, easel.height), close);
}

class Painting {
  constructor(id, easel, mask, close) {
    Object.assign(this, { id, easel, mask, close });
    this.value = OBJECT;
    this.radius = Math.max(4, Math.round(easel.width / 60));
    this.last = null;
    this.saved = true;
    this.seen = plate(id).v;
    this.context = easel.canvas.getContext("2d");
    this.draw({ left: 0, top: 0, right: easel.width, bottom: easel.height });
    this.element = el("div", { class: "work" }, easel.element, this.tools());
    const { stack } = easel;
    stack.addEventListener("pointerdown", (event) => this.down(event));
    stack.addEventListener("pointermove", (event) => this.move(event));
    stack.addEventListener("pointerup", () => this.up());
    stack.addEventListener("pointercancel", () => this.up());
    this.choose(OBJECT);
  }

  tools() {
    this.brushes = BRUSHES.map(([key, words, value, about]) =>
      button([el("span", { class: `dot mask-${value}`, "aria-hidden": "true" }), words], () => this.choose(value), { title: about, "aria-keyshortcuts": key }),
    );
    const most = Math.max(40, Math.round(this.easel.width / 8));
    this.size = el("input", { type: "range", min: 1, max: most, value: this.radius, on: { input: () => this.resize(Number(this.size.value)) } });
    this.takeBack = button("Undo stroke", () => this.undo(), { "aria-keyshortcuts": "z" });
    return el(
      "div",
      { class: "work-tools", role: "toolbar", "aria-label": "Painting" },
      el("div", { class: "either" }, this.brushes),
      labeled("brush", this.size),
      button("\u2212", () => this.easel.enlarge(-1), { "aria-label": "Smaller" }),
      button("+", () => this.easel.enlarge(1), { "aria-label": "Larger" }),
      this.takeBack,
      button("Save mask", () => this.save(), { class: "main", "aria-keyshortcuts": "s" }),
      button("Cancel", () => this.close()),
    );
  }

  choose(value) {
    this.value = value;
    BRUSHES.forEach(([, , each], index) => put(this.brushes[index], "aria-pressed", String(each === value)));
    this.marks();
  }

  resize(radius) {
    this.radius = Math.min(Math.max(radius, 1), Number(this.size.max));
    this.size.value = String(this.radius);
    this.marks();
  }

  down(event) {
    if (event.button) return;
    event.preventDefault();
    this.easel.stack.focus({ preventScroll: true });
    this.easel.stack.setPointerCapture(event.pointerId);
    this.mask.begin();
    this.stroke(this.easel.where(event));
  }

  move(event) {
    this.easel.cross = this.easel.where(event);
    for (const each of event.getCoalescedEvents?.() ?? [event]) if (this.last) this.stroke(this.easel.where(each));
    this.marks();
  }

  up() {
    if (!this.last) return;
    this.last = null;
    this.mask.end();
    this.saved = false;
  }

  stroke(to) {
    this.draw(this.mask.paint(this.last ?? to, to, this.radius, this.value));
    this.last = to;
  }

  draw(box) {
    drawTint(this.context, this.mask.values, box);
  }

  /** The brush's outline where the pointer or the keyboard's cross is. */
  marks() {
    const { marks, cross, scale } = this.easel;
    const context = marks.getContext("2d");
    context.clearRect(0, 0, marks.width, marks.height);
    if (this.element) ring(context, cross.x, cross.y, this.radius, scale);
  }

  undo() {
    const box = this.mask.undo();
    if (box) this.draw(box);
    whisper(box ? "The last stroke is taken back." : "There is no stroke to take back.");
  }

  async save() {
    const now = plate(this.id)?.v;
    if (now !== this.seen) {
      this.seen = now;
      warn("This picture was painted on or made anew since you began.", "Save again to put your mask in its place, or cancel and look.");
      return;
    }
    const { width, height } = this.easel;
    const png = base64(await grayPng(this.mask.values, width, height));
    if (await act("mask", { frame: this.id, png })) {
      this.saved = true;
      this.close();
    }
  }

  dirty() {
    return !this.saved && this.mask.past.length > 0;
  }

  key(event) {
    const brush = BRUSHES.find(([key]) => key === event.key);
    if (brush) this.choose(brush[2]);
    else if (event.key === "[") this.resize(this.radius - Math.max(1, Math.round(this.radius / 6)));
    else if (event.key === "]") this.resize(this.radius + Math.max(1, Math.round(this.radius / 6)));
    else if (event.key === "z") this.undo();
    else if (event.key === "s") this.save();
    else if (event.key === "+" || event.key === "=") this.easel.enlarge(1);
    else if (event.key === "-") this.easel.enlarge(-1);
    else if (event.target === this.easel.stack && event.key === " ") this.dab();
    else if (event.target === this.easel.stack && this.easel.moveCross(event)) this.marks();
    else return false;
    return true;
  }

  dab() {
    this.mask.begin();
    this.stroke(this.easel.cross);
    this.up();
  }
}
