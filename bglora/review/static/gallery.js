// The gallery: groups of plates as virtual rows, one grid to the keyboard and to screen readers.

import { fillCell, loadCell, makeCell } from "./cell.js";
import { el, put, say } from "./markup.js";
import { VirtualRows } from "./rows.js";

const GAP = 12;
const UNDER = 34;
const UNDER_FINGERS = 42;
const FINGERS = matchMedia("(max-width: 640px), (pointer: coarse)"); // as in review.css
const HEAD = 64;

/**
 * A grid of plates. `selection` says what is under the cursor and what is chosen; `on` has what the gallery asks for:
 * `open(id)`, `decide(word, ids)` and `choose(event, id)`.
 */
export class Gallery {
  constructor(host, selection, on) {
    this.host = host;
    this.selection = selection;
    this.on = on;
    this.groups = [];
    this.size = 180;
    this.columns = 1;
    this.rowOf = new Map();
    this.rows = new VirtualRows(host, {
      make: (row) => (row.kind === "head" ? this.makeHead() : this.makeRow()),
      fill: (node, row) => (row.kind === "head" ? this.fillHead(node, row) : this.fillRow(node, row)),
      load: (node) => { for (const cell of node.querySelectorAll(".cell")) loadCell(cell); },
    });
    host.addEventListener("click", (event) => this.clicked(event));
    new ResizeObserver(() => this.layOut()).observe(host);
  }

  show(groups, aspect) {
    this.groups = groups;
    this.aspect = aspect;
    this.selection.setOrder(groups.flatMap((group) => group.plates));
    this.layOut(true);
  }

  /** Columns and row heights for the width there is. */
  layOut(force = false) {
    const width = this.host.clientWidth;
    if (!width) return;
    const columns = Math.max(2, Math.floor((width + GAP) / (this.size + GAP)));
    if (!force && columns === this.columns && width === this.width) return;
    this.columns = columns;
    this.width = width;
    const cell = (width - GAP * (columns - 1)) / columns;
    const height = Math.round(cell / this.aspect) + (FINGERS.matches ? UNDER_FINGERS : UNDER) + GAP;
    this.host.style.setProperty("--columns", columns);
    this.host.style.setProperty("--thumb", `${Math.round(cell / this.aspect)}px`);
    const rows = [];
    this.rowOf = new Map();
    for (const group of this.groups) {
      rows.push({ kind: "head", height: HEAD, group, number: rows.length });
      for (let i = 0; i < group.plates.length; i += columns) {
        const plates = group.plates.slice(i, i + columns);
        for (const id of plates) this.rowOf.set(id, rows.length);
        rows.push({ kind: "plates", height, plates, number: rows.length });
      }
    }
    put(this.host, "aria-rowcount", rows.length);
    put(this.host, "aria-colcount", columns);
    this.rows.pin(this.rowOf.get(this.selection.cursor) ?? -1);
    this.rows.setRows(rows);
  }

  /** Brings what is shown up to date: decisions, choice, cursor. */
  refresh() {
    this.rows.pin(this.rowOf.get(this.selection.cursor) ?? -1);
    this.rows.render(true);
  }

  /** Shows the cursor's plate; `focus` puts the keyboard there. */
  reveal(focus = true) {
    const index = this.rowOf.get(this.selection.cursor);
    if (index === undefined) return;
    const top = document.querySelector(".bar-top").offsetHeight + document.querySelector("#plates .tools").offsetHeight + 8;
    const bottom = document.querySelector(".bar-end").offsetHeight + 8;
    this.rows.reveal(index, { top, bottom });
    if (focus) this.cellOf(this.selection.cursor)?.focus({ preventScroll: true });
  }

  /** Scrolls to a group's head. */
  goTo(groupId) {
    const index = this.rows.rows.findIndex((row) => row.kind === "head" && row.group.id === groupId);
    if (index < 0) return;
    const top = document.querySelector(".bar-top").offsetHeight + document.querySelector("#plates .tools").offsetHeight;
    scrollTo(0, this.host.getBoundingClientRect().top + scrollY + this.rows.tops[index] - top);
    this.rows.render();
  }

  /** The group at the window's top, or null. */
  groupAtTop() {
    const top = document.querySelector(".bar-top").offsetHeight + document.querySelector("#plates .tools").offsetHeight;
    let index = Math.min(this.rows.at(top + 1 - this.host.getBoundingClientRect().top), this.rows.rows.length - 1);
    while (index > 0 && this.rows.rows[index].kind !== "head") index -= 1;
    return this.rows.rows[index]?.group ?? null;
  }

  cellOf(id) {
    return [...this.host.querySelectorAll(".cell")].find((cell) => cell.dataset.id === id) ?? null;
  }

  makeHead() {
    return el(
      "div",
      { class: "group-head", role: "row" },
      el("div", { role: "rowheader", class: "group-name" }, el("h3", {}), el("p", { class: "soft" })),
      el(
        "div",
        { role: "gridcell", class: "group-acts" },
        el("button", { type: "button", "data-all": "choose" }, "Select"),
        el("button", { type: "button", "data-all": "keep" }, "Keep all"),
        el("button", { type: "button", "data-all": "drop" }, "Drop all"),
      ),
    );
  }

  fillHead(node, { group, number }) {
    const [names, acts] = node.children;
    put(node, "aria-rowindex", number + 1);
    put(node, "data-group", group.id);
    say(names.children[0], group.title);
    say(names.children[1], group.words);
    for (const one of acts.children) put(one, "aria-label", `${one.textContent}: ${group.title}`);
  }

  makeRow() {
    return el("div", { class: "plate-row", role: "row" });
  }

  fillRow(node, { plates, number }) {
    put(node, "aria-rowindex", number + 1);
    while (node.children.length > this.columns) node.lastChild.remove();
    while (node.children.length < this.columns) node.append(makeCell());
    for (let column = 0; column < this.columns; column += 1) {
      const id = plates[column] ?? null;
      const [cursor, chosen] = [id === this.selection.cursor, this.selection.chosen.has(id)];
      fillCell(node.children[column], id, { cursor, chosen, column });
    }
  }

  clicked(event) {
    const all = event.target.closest("[data-all]");
    if (all) {
      const group = this.groups.find((one) => one.id === all.closest("[data-group]").dataset.group);
      if (all.dataset.all === "choose") this.selection.toggleAll(group.plates);
      else this.on.decide(all.dataset.all, group.plates);
      return;
    }
    const id = event.target.closest(".cell")?.dataset.id;
    if (!id) return;
    const what = event.target.closest("[data-do]")?.dataset.do;
    if (what === "choose" || event.ctrlKey || event.metaKey || event.shiftKey) {
      if (event.shiftKey) this.selection.go(id, true);
      else this.selection.toggle(id);
      this.cellOf(id)?.focus({ preventScroll: true });
    } else if (what) {
      this.on.decide(what, [id]);
    } else if (event.target.closest(".thumb")) {
      this.selection.go(id);
      this.on.open(id);
    } else {
      this.selection.go(id);
    }
  }
}
