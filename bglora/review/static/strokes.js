// Strokes of a round brush on a mask, with hard edges, each of which can be taken back.

const KEPT = 60;

/** A mask that is painted on. `values` has a byte a pixel. */
export class StrokedMask {
  constructor(values, width, height) {
    this.values = values;
    this.width = width;
    this.height = height;
    this.past = [];
    this.before = null;
  }

  /** Begins a stroke; all that is painted until `end` is taken back at once. */
  begin() {
    this.before = this.values.slice();
    this.touched = { left: this.width, top: this.height, right: 0, bottom: 0 };
  }

  /**
   * Paints along a line.
   * @returns {{left: number, top: number, right: number, bottom: number}} what has changed at most
   */
  paint(from, to, radius, value) {
    const box = {
      left: Math.max(0, Math.floor(Math.min(from.x, to.x) - radius)),
      top: Math.max(0, Math.floor(Math.min(from.y, to.y) - radius)),
      right: Math.min(this.width, Math.ceil(Math.max(from.x, to.x) + radius) + 1),
      bottom: Math.min(this.height, Math.ceil(Math.max(from.y, to.y) + radius) + 1),
    };
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = dx * dx + dy * dy;
    for (let y = box.top; y < box.bottom; y += 1) {
      for (let x = box.left; x < box.right; x += 1) {
        const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y];
        const along = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
        const [ex, ey] = [px - along * dx, py - along * dy];
        if (ex * ex + ey * ey <= radius * radius) this.values[y * this.width + x] = value;
      }
    }
    this.touched = joined(this.touched, box);
    return box;
  }

  end() {
    const box = this.touched;
    if (box && box.right > box.left) {
      this.past.push({ box, pixels: cut(this.before, this.width, box) });
      if (this.past.length > KEPT) this.past.shift();
    }
    this.before = null;
  }

  /** Takes the last stroke back; returns what has changed, or null. */
  undo() {
    const last = this.past.pop();
    if (!last) return null;
    const { box, pixels } = last;
    const across = box.right - box.left;
    for (let y = box.top; y < box.bottom; y += 1) {
      this.values.set(pixels.subarray((y - box.top) * across, (y - box.top + 1) * across), y * this.width + box.left);
    }
    return box;
  }
}

function joined(a, b) {
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}

function cut(values, width, box) {
  const across = box.right - box.left;
  const pixels = new Uint8Array(across * (box.bottom - box.top));
  for (let y = box.top; y < box.bottom; y += 1) {
    pixels.set(values.subarray(y * width + box.left, y * width + box.right), (y - box.top) * across);
  }
  return pixels;
}
