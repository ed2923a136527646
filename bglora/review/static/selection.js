// Which plates are meant: a cursor, and those chosen besides it.

/** A cursor in an order of plates, and a set of chosen ones. `changed` is called after every change. */
export class Selection {
  constructor(changed) {
    this.order = [];
    this.place = new Map();
    this.chosen = new Set();
    this.cursor = null;
    this.anchor = null;
    this.changed = changed;
  }

  /** The plates shown, in order; what is no longer there is no longer chosen. */
  setOrder(order) {
    const before = this.place.get(this.cursor) ?? 0;
    this.order = order;
    this.place = new Map(order.map((id, index) => [id, index]));
    for (const id of [...this.chosen]) if (!this.place.has(id)) this.chosen.delete(id);
    if (!this.place.has(this.cursor)) this.cursor = order[Math.min(before, order.length - 1)] ?? null;
    if (!this.place.has(this.anchor)) this.anchor = this.cursor;
  }

  /** What an act is about: the chosen ones, or else the one under the cursor. */
  meant() {
    if (this.chosen.size) return this.order.filter((id) => this.chosen.has(id));
    return this.cursor ? [this.cursor] : [];
  }

  /** Moves the cursor; `range` chooses all between the anchor and it. */
  go(id, range = false) {
    if (!this.place.has(id)) return;
    this.cursor = id;
    if (range) this.chooseTo(id);
    else this.anchor = id;
    this.changed();
  }

  step(by, range = false) {
    if (!this.order.length) return;
    const index = Math.min(Math.max((this.place.get(this.cursor) ?? 0) + by, 0), this.order.length - 1);
    this.go(this.order[index], range);
  }

  toggle(id) {
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.cursor = this.anchor = id;
    this.changed();
  }

  /** Chooses all of them, or none if all are chosen already. */
  toggleAll(ids) {
    const all = ids.every((id) => this.chosen.has(id));
    for (const id of ids) {
      if (all) this.chosen.delete(id);
      else this.chosen.add(id);
    }
    this.changed();
  }

  clear() {
    this.chosen.clear();
    this.changed();
  }

  chooseTo(id) {
    const [first, last] = [this.place.get(this.anchor), this.place.get(id)].sort((a, b) => a - b);
    this.chosen.clear();
    for (let i = first; i <= last; i += 1) this.chosen.add(this.order[i]);
  }
}
