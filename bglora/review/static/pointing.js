// Pointing somebody out for SAM 2: points on him, points that are not him, and a box around him.

import { Easel } from "./easel.js";
import { button, count, el, say } from "./markup.js";
import { whisper } from "./telling.js";
import { act } from "./wire.js";

const CLICK = 6;

/** Opens the easel for a frame; what comes back has `element`, `key` and `dirty` as that of painting. */
export async function openPointing(id, close) {
  return new Pointing(id, await Easel.open(id), close);
}

class Pointing {
  constructor(id, easel, close) {
    Object.assign(this, { id, easel, close });
    this.points = [];
    this.box = null;
    this.order = [];
    this.start = null;
    this.corner = null;
    this.words = el("p", { class: "soft", "aria-live": "polite" });
    this.element = el("div", { class: "work" }, easel.element, this.tools());
    const { stack } = easel;
    stack.addEventListener("pointerdown", (event) => this.down(event));
    stack.addEventListener("pointermove", (event) => this.move(event));
    stack.addEventListener("pointerup", (event) => this.up(event));
    this.tell();
  }

  tools() {
    this.beside = button("Not this", () => this.beside.setAttribute("aria-pressed", String(this.beside.getAttribute("aria-pressed") !== "true")), { "aria-pressed": "false", title: "What is clicked now does not belong to him; Shift does the same" });
    return el(
      "div",
      { class: "work-tools", role: "toolbar", "aria-label": "Pointing out" },
      this.words,
      this.beside,
      button("\u2212", () => this.zoom(-1), { "aria-label": "Smaller" }),
      button("+", () => this.zoom(1), { "aria-label": "Larger" }),
      button("Undo", () => this.undo(), { "aria-keyshortcuts": "z" }),
      button("Save", () => this.save(), { class: "main", "aria-keyshortcuts": "s" }),
      button("Cancel", () => this.close()),
    );
  }

  zoom(by) {
    this.easel.enlarge(by);
    this.draw();
  }

  down(event) {
    if (event.button) return;
    event.preventDefault();
    this.easel.stack.focus({ preventScroll: true });
    this.easel.stack.setPointerCapture(event.pointerId);
    this.start = this.easel.where(event);
  }

  move(event) {
    this.easel.cross = this.easel.where(event);
    this.draw(this.start ? span(this.start, this.easel.cross) : null);
  }

  up(event) {
    if (!this.start) return;
    const at = this.easel.where(event);
    const far = Math.hypot(at.x - this.start.x, at.y - this.start.y) > CLICK * this.easel.scale;
    if (far) this.setBox(span(this.start, at));
    else this.point(at, event.shiftKey || this.beside.getAttribute("aria-pressed") === "true");
    this.start = null;
  }

  point({ x, y }, beside) {
    const inside = (value, most) => Math.min(Math.max(Math.round(value), 0), most - 1);
    this.points.push([inside(x, this.easel.width), inside(y, this.easel.height), beside ? 0 : 1]);
    this.order.push("point");
    this.tell();
  }

  setBox(box) {
    const { width, height } = this.easel;
    const [left, top] = [Math.max(0, Math.round(box[0])), Math.max(0, Math.round(box[1]))];
    const [right, bottom] = [Math.min(width, Math.round(box[2])), Math.min(height, Math.round(box[3]))];
    if (right <= left || bottom <= top) return;
    this.box = [left, top, right, bottom];
    this.order = [...this.order.filter((one) => one !== "box"), "box"];
    this.tell();
  }

  undo() {
    const last = this.order.pop();
    if (last === "point") this.points.pop();
    if (last === "box") this.box = null;
    this.tell();
  }

  async save() {
    if (!this.box && !this.points.some((point) => point[2])) {
      whisper("Click on somebody, or drag a box around him, first.");
      say(this.words, "Click on somebody, or drag a box around him, first.");
      return;
    }
    if (await act("points", { frame: this.id, points: this.points, box: this.box })) {
      this.order = [];
      this.close();
    }
  }

  tell() {
    const on = this.points.filter((point) => point[2]).length;
    const beside = this.points.length - on;
    const said = [on && `${count(on, "point")} on him`, beside && `${count(beside, "point")} beside him`, this.box && "a box"];
    say(this.words, said.filter(Boolean).join(", ") || "Click on somebody; Shift-click what is not him; or drag a box around him.");
    this.draw();
  }

  draw(sketch = null) {
    const { marks, scale, cross } = this.easel;
    const context = marks.getContext("2d");
    context.clearRect(0, 0, marks.width, marks.height);
    const lines = [[this.box, []], [sketch, [6 * scale, 4 * scale]]];
    for (const [box, dash] of lines) if (box) outline(context, box, dash, scale);
    for (const [x, y, on] of this.points) dot(context, x, y, on, scale);
    if (this.corner) outline(context, span(this.corner, cross), [6 * scale, 4 * scale], scale);
    if (document.activeElement === this.easel.stack) crossHair(context, cross, scale);
  }

  dirty() {
    return this.order.length > 0;
  }

  key(event) {
    const on = event.target === this.easel.stack;
    if (event.key === "z") this.undo();
    else if (event.key === "s") this.save();
    else if (event.key === "+" || event.key === "=") this.zoom(1);
    else if (event.key === "-") this.zoom(-1);
    else if (on && (event.key === "Enter" || event.key === " ")) this.point(this.easel.cross, event.shiftKey);
    else if (on && event.key === "b") this.markCorner();
    else if (on && this.easel.moveCross(event)) this.draw();
    else return false;
    return true;
  }

  /** By keyboard a box has two corners, each marked by b. */
  markCorner() {
    if (this.corner) this.setBox(span(this.corner, this.easel.cross));
    this.corner = this.corner ? null : { ...this.easel.cross };
    whisper(this.corner ? "One corner is marked. Move the cross, and press b at the other." : "The box is drawn.");
    this.draw();
  }
}

function span(a, b) {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}

function outline(context, [left, top, right, bottom], dash, scale) {
  context.setLineDash(dash);
  for (const [color, width] of [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = color;
    context.lineWidth = width * scale;
    context.strokeRect(left, top, right - left, bottom - top);
  }
  context.setLineDash([]);
}

function dot(context, x, y, on, scale) {
  context.fillStyle = on ? "#2ecc71" : "#e74c3c";
  context.strokeStyle = "#fff";
  context.lineWidth = 2 * scale;
  context.beginPath();
  context.arc(x, y, 6 * scale, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
  context.beginPath(); // a plus or a minus, so that color is not all that tells them apart
  context.moveTo(x - 3 * scale, y);
  context.lineTo(x + 3 * scale, y);
  if (on) context.moveTo(x, y - 3 * scale);
  if (on) context.lineTo(x, y + 3 * scale);
  context.stroke();
}

function crossHair(context, { x, y }, scale) {
  for (const [color, width] of [["#000", 3], ["#fff", 1]]) {
    context.strokeStyle = color;
    context.lineWidth = width * scale;
    context.beginPath();
    context.moveTo(x - 12 * scale, y);
    context.lineTo(x + 12 * scale, y);
    context.moveTo(x, y - 12 * scale);
    context.lineTo(x, y + 12 * scale);
    context.stroke();
  }
}
