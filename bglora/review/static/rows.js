// Rows of which only those near the window exist as elements: ten thousand pictures in a few hundred nodes.

const OVERSCAN = 700;
const CALM_MS = 90;
const SPARE = 40;

/**
 * Lays rows of known heights one below the other in `host`, which scrolls with the window.
 * A row is `{key, height, …}`; `make(row)` gives its element, `fill(element, row)` brings it up to date, and
 * `load(element)` starts its pictures, which waits while somebody scrolls fast.
 */
export class VirtualRows {
  constructor(host, { make, fill, load }) {
    this.host = host;
    this.make = make;
    this.fill = fill;
    this.load = load;
    this.rows = [];
    this.tops = [0];
    this.live = new Map();
    this.spare = new Map(); // elements of rows that went, by kind, to be filled anew
    this.pinned = -1;
    this.asked = 0;
    this.calm = 0;
    this.lastTop = 0;
    const soon = () => { this.asked ||= requestAnimationFrame(() => { this.asked = 0; this.render(); }); };
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
  }

  setRows(rows) {
    this.rows = rows;
    this.tops = new Array(rows.length + 1);
    this.tops[0] = 0;
    for (let i = 0; i < rows.length; i += 1) this.tops[i + 1] = this.tops[i] + rows[i].height;
    this.host.style.height = `${this.tops[rows.length]}px`;
    this.render(true);
  }

  /** A row that stays an element wherever the window is: the one with the keyboard's cursor. */
  pin(index) {
    this.pinned = index;
  }

  /** Puts elements where the window looks; `all` also brings those that stay up to date. */
  render(all = false) {
    if (!this.host.isConnected || !this.host.offsetParent) return;
    const box = this.host.getBoundingClientRect();
    const first = this.at(-box.top - OVERSCAN);
    const last = this.at(-box.top + innerHeight + OVERSCAN);
    const wanted = new Set();
    for (let i = first; i <= last && i < this.rows.length; i += 1) wanted.add(i);
    if (this.pinned >= 0 && this.pinned < this.rows.length) wanted.add(this.pinned);
    for (const [index, node] of this.live) {
      if (!wanted.has(index) || node.dataset.kind !== this.rows[index].kind) this.remove(index, node);
    }
    for (const index of [...wanted].sort((a, b) => a - b)) this.place(index, all);
    const fast = Math.abs(box.top - this.lastTop) > innerHeight;
    this.lastTop = box.top;
    clearTimeout(this.calm);
    if (fast) this.calm = setTimeout(() => this.loadAll(), CALM_MS);
    else this.loadAll();
  }

  place(index, all) {
    const row = this.rows[index];
    let node = this.live.get(index);
    const fresh = !node;
    if (fresh) {
      node = this.spare.get(row.kind)?.pop() ?? this.make(row);
      node.dataset.kind = row.kind;
      this.live.set(index, node);
      const after = [...this.live.keys()].filter((other) => other > index).sort((a, b) => a - b)[0];
      this.host.insertBefore(node, after === undefined ? null : this.live.get(after)); // reading order is page order
    }
    if (fresh || all) this.fill(node, row);
    node.style.transform = `translateY(${this.tops[index]}px)`;
    node.style.height = `${row.height}px`;
  }

  remove(index, node) {
    for (const picture of node.querySelectorAll("img[src]")) picture.removeAttribute("src"); // ends its request
    node.remove();
    this.live.delete(index);
    const { kind } = node.dataset;
    if (!this.spare.has(kind)) this.spare.set(kind, []);
    if (this.spare.get(kind).length < SPARE) this.spare.get(kind).push(node);
  }

  loadAll() {
    for (const node of this.live.values()) this.load(node);
  }

  /** The row at a height, in pixels from the first row's top. */
  at(y) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Scrolls as little as shows the whole row below what sticks to the window's top and above what does to its end. */
  reveal(index, { top = 0, bottom = 0 } = {}) {
    const box = this.host.getBoundingClientRect();
    const above = box.top + this.tops[index] - top;
    const below = box.top + this.tops[index + 1] + bottom - innerHeight;
    if (above < 0) scrollBy(0, above);
    else if (below > 0) scrollBy(0, Math.min(below, above));
    this.render();
  }
}
