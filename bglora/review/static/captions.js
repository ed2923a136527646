// The captions of a scene: edited in place, and tags found and replaced over all of them.

import { button, count, el, labeled, put, say } from "./markup.js";
import { VirtualRows } from "./rows.js";
import { pictureUrl, plate, project, titleOf } from "./store.js";
import { replaced, tagCounts } from "./tags.js";
import { sceneMenu } from "./scenemenu.js";
import { act } from "./wire.js";
import { begun, giveUp, saveCaption, showCaption } from "./wording.js";

const ROW = 104;
const NARROW_ROW = 148;
const TAGS_SHOWN = 24;
const PREVIEWED = 4;

let scene = null;
let parts;
let rows;

/** Builds the view; `open(view, scene)` goes to another scene. */
export function buildCaptions(section, open) {
  const menu = sceneMenu((id) => open("captions", id));
  const find = el("input", { autocomplete: "off", spellcheck: "false", on: { input: preview } });
  const put_ = el("input", { autocomplete: "off", on: { input: preview }, placeholder: "nothing: the tag goes" });
  const apply = el("button", { type: "submit", class: "main", disabled: true }, "Replace");
  parts = {
    menu, find, put: put_, apply,
    found: el("p", { class: "soft", "aria-live": "polite" }),
    sample: el("ul", { class: "sample" }),
    tags: el("div", { class: "tags", role: "group", "aria-label": "Tags of this scene: click one to find it" }),
    list: el("div", { class: "caption-rows", role: "list" }),
    empty: el("p", { class: "empty", hidden: true }),
  };
  parts.form = el(
    "form",
    { class: "replace", on: { submit: (event) => { event.preventDefault(); replaceAll(); } } },
    labeled("find the tag", find),
    labeled("put in its place", put_),
    apply,
    parts.found,
    parts.sample,
    parts.tags,
  );
  section.replaceChildren(el("h2", { class: "unseen" }, "Captions"), menu.element, parts.empty, parts.form, parts.list);
  rows = new VirtualRows(parts.list, { make: makeRow, fill: fillRow, load: loadRow });
  addEventListener("resize", () => parts.list.offsetParent && layOut());
}

/** Shows a scene's captions. */
export function showCaptions(wanted) {
  const { scenes } = project.state;
  if (wanted) scene = wanted;
  if (!project.scenes.has(scene)) scene = scenes[0]?.id ?? null;
  parts.menu.show(scene);
  const any = captioned().length > 0;
  parts.form.hidden = parts.list.hidden = !any;
  parts.empty.hidden = any;
  say(parts.empty, scene ? `${titleOf(scene)} has no captions yet: run the pipeline up to caption.` : "There are no scenes yet.");
  showTags();
  preview();
  layOut();
}

function captioned() {
  const has = (id) => typeof plate(id)?.caption === "string";
  return scene ? project.scenes.get(scene).plates.filter(has) : [];
}

function layOut() {
  const height = innerWidth < 640 ? NARROW_ROW : ROW;
  rows.setRows(captioned().map((id) => ({ kind: "caption", height, id })));
}

function makeRow() {
  const field = el("textarea", { spellcheck: "true", on: { input: () => begun(field), change: () => saveCaption(field), focus: () => hold(field), blur: () => rows.pin(-1) } });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      saveCaption(field);
      next(field, 1);
    } else if (event.key === "Escape") {
      giveUp(field);
      field.blur();
    }
    event.stopPropagation();
  });
  return el("div", { class: "caption-row", role: "listitem" }, el("img", { alt: "", decoding: "async" }), el("label", {}, el("b", {}), field));
}

function fillRow(node, { id }) {
  const [picture, label] = node.children;
  const [name, field] = label.children;
  picture.dataset.url = pictureUrl("plate", id, 320);
  if (picture.hasAttribute("src") && picture.getAttribute("src") !== picture.dataset.url) picture.removeAttribute("src");
  say(name, id);
  put(node, "data-id", id);
  showCaption(field, id);
}

function loadRow(node) {
  const picture = node.querySelector("img");
  if (picture.dataset.url && !picture.hasAttribute("src")) picture.src = picture.dataset.url;
}

/** The field in which somebody writes stays an element wherever the window is. */
function hold(field) {
  rows.pin(captioned().indexOf(field.dataset.id));
}

function next(field, by) {
  const fields = [...parts.list.querySelectorAll("textarea")];
  fields[fields.indexOf(field) + by]?.focus();
}

function showTags() {
  const counts = tagCounts(captioned().map((id) => plate(id).caption)).slice(0, TAGS_SHOWN);
  const fill = (tag) => {
    parts.find.value = tag;
    preview();
    parts.put.focus();
  };
  parts.tags.replaceChildren(...counts.map(([tag, times]) =>
    button([tag, el("span", { class: "soft" }, ` ${times}`)], () => fill(tag)),
  ));
}

function changes() {
  const [find, replacement] = [parts.find.value.trim(), parts.put.value];
  return captioned()
    .map((id) => ({ id, before: plate(id).caption, after: replaced(plate(id).caption, find, replacement) }))
    .filter((one) => one.before !== one.after);
}

/** How many captions a replacement would change, and how the first of them would read. */
function preview() {
  const find = parts.find.value.trim();
  const found = find ? changes() : [];
  const with_ = captioned().filter((id) => replaced(plate(id).caption, find, "") !== plate(id).caption).length;
  parts.apply.disabled = !found.length;
  const total = captioned().length;
  const none = with_ ? "The captions stay as they are." : `No caption has the tag \u201c${find}\u201d.`;
  say(parts.found, !find ? "" : found.length ? `Changes ${found.length} of ${count(total, "caption")}.` : none);
  const samples = found.slice(0, PREVIEWED).map(({ before, after }) => el("li", {}, el("del", {}, before), " ", el("ins", {}, after)));
  if (found.length > PREVIEWED) samples.push(el("li", { class: "soft" }, `and ${found.length - PREVIEWED} more`));
  parts.sample.replaceChildren(...samples);
}

async function replaceAll() {
  const found = changes();
  if (!found.length) return;
  const fields = { scene, find: parts.find.value.trim(), replace: parts.put.value.trim() };
  const done = await act("replace", fields, (state) => {
    for (const { id, after } of found) state.plates[id].caption = after;
  });
  if (!done) return;
  parts.find.value = parts.put.value = "";
  preview();
  parts.find.focus();
}
