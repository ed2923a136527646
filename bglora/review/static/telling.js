// Words for the person: what was done, and what went wrong. Both are seen and read aloud.

import { button, el, sentence } from "./markup.js";

const SHOWN_MS = 9000;
let timer = 0;

const nodes = Object.fromEntries(["told", "warned", "whispered"].map((id) => [id, document.getElementById(id)]));
const place = (id) => nodes[id];

/** A dialog covers the page and silences it: words go where the person is. */
function settle() {
  const home = document.querySelector("dialog[open]") ?? document.body;
  for (const node of Object.values(nodes)) if (node.parentNode !== home) home.append(node);
}
document.addEventListener("close", () => setTimeout(settle), true);

/** Something was done. `stale` says what it makes out of date. */
export function tell(said, stale = []) {
  if (!said) return;
  settle();
  const words = stale.length ? el("span", { class: "soft" }, ` Makes again: ${shortly(stale)}.`) : null;
  place("told").replaceChildren(el("p", {}, `${said[0].toUpperCase()}${said.slice(1)}.`.replace("..", "."), words));
  place("told").hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { place("told").hidden = true; }, SHOWN_MS);
}

/** `segment, inpaint, cluster` from a line a stage with its reasons; the bar says how much of each. */
function shortly(stale) {
  return stale.map((line) => line.split(/[ :]/)[0]).join(", ");
}

/** Something was not done; stays until it is closed or something else is done. */
export function warn(what, cure = "") {
  settle();
  const close = button("\u00d7", () => { place("warned").hidden = true; }, { "aria-label": "Close the message", class: "plain" });
  place("warned").replaceChildren(el("p", {}, el("b", {}, sentence(what)), cure ? el("span", {}, " ", sentence(cure)) : null), close);
  place("warned").hidden = false;
}

/** Adds to the warning that stands there, or warns. */
export function warnToo(words) {
  if (place("warned").hidden) warn(words);
  else place("warned").querySelector("p").append(el("span", {}, ` ${words}`));
}

/** For screen readers alone. */
export function whisper(words) {
  settle();
  place("whispered").textContent = words;
}

/** Takes a warning away. */
export function calm() {
  place("warned").hidden = true;
}
