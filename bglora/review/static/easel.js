// A frame at its own size to draw on: zoom, and where a pointer or the keyboard's cross stands, in pixels of the frame.

import { el } from "./markup.js";
import { pictureUrl } from "./store.js";
import { loadPicture } from "./tint.js";

const ZOOMS = [1, 1.5, 2, 3, 4];

/** The frame with canvases over it; make one by `Easel.open(id)`. */
export class Easel {
  static async open(id) {
    return new Easel(id, await loadPicture(pictureUrl("frame", id, 0)));
  }

  constructor(id, picture) {
    this.width = picture.naturalWidth;
    this.height = picture.naturalHeight;
    picture.alt = `Frame ${id}`;
    picture.draggable = false;
    this.canvas = this.layer("pixels");
    this.marks = this.layer("marks");
    this.stack = el("div", { class: "stack", tabindex: 0, role: "application", "aria-label": `Frame ${id}: drawing` }, picture, this.canvas, this.marks);
    this.stack.style.aspectRatio = `${this.width} / ${this.height}`;
    this.stack.style.setProperty("--ratio", String(this.width / this.height));
    this.element = el("div", { class: "easel" }, this.stack);
    this.zoom = 0;
    this.cross = { x: Math.round(this.width / 2), y: Math.round(this.height / 2) };
  }

  layer(name) {
    return el("canvas", { width: this.width, height: this.height, class: name });
  }

  /** Where an event is, in pixels of the frame. */
  where(event) {
    const box = this.stack.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * this.width, y: ((event.clientY - box.top) / box.height) * this.height };
  }

  /** Pixels of the frame in one of the screen. */
  get scale() {
    return this.width / this.stack.getBoundingClientRect().width;
  }

  enlarge(by) {
    this.zoom = Math.min(Math.max(this.zoom + by, 0), ZOOMS.length - 1);
    this.stack.style.setProperty("--zoom", String(ZOOMS[this.zoom]));
    const { element, stack } = this;
    element.scrollLeft = (this.cross.x / this.width) * stack.offsetWidth - element.clientWidth / 2;
    element.scrollTop = (this.cross.y / this.height) * stack.offsetHeight - element.clientHeight / 2;
  }

  /** Moves the cross by an arrow key; true if the key was one. */
  moveCross(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return false;
    const step = (event.shiftKey ? 24 : 4) * Math.max(1, Math.round(this.width / 1000));
    this.cross.x = Math.min(Math.max(this.cross.x + way[0] * step, 0), this.width - 1);
    this.cross.y = Math.min(Math.max(this.cross.y + way[1] * step, 0), this.height - 1);
    return true;
  }
}

/** A circle with a light and a dark line, to be seen on any picture. */
export function ring(context, x, y, radius, scale) {
  for (const [color, width] of [["#000", 3], ["#fff", 1.2]]) {
    context.strokeStyle = color;
    context.lineWidth = width * scale;
    context.beginPath();
    context.arc(x, y, Math.max(radius, 1), 0, 2 * Math.PI);
    context.stroke();
  }
}
