// Elements from JavaScript. Text becomes text nodes, so that no name or caption is ever read as markup.

/**
 * One element.
 * @param {string} name tag name
 * @param {object} [attributes] attributes; `on` holds listeners, `class` may be a list with false entries; true sets an
 *   empty attribute, false, null and undefined leave one out
 * @param {...(Node|string|number|null|false|Array)} children
 */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (key === "class") {
      node.className = Array.isArray(value) ? value.filter(Boolean).join(" ") : value;
    } else {
      put(node, key, value);
    }
  }
  append(node, children);
  return node;
}

/** Sets an attribute only where it differs; a screen reader hears of no change that is none. */
export function put(node, key, value) {
  if (value === false || value === null || value === undefined) {
    if (node.hasAttribute(key)) node.removeAttribute(key);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(key) !== text) node.setAttribute(key, text);
}

/** Sets a node's text only where it differs. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Words with what stands between backticks as code. */
export function sentence(words) {
  const parts = words.split("`");
  return parts.length % 2 ? parts.map((part, place) => (place % 2 ? el("code", {}, part) : part)) : [words];
}

/** A button with a listener. */
export function button(words, onClick, attributes = {}) {
  return el("button", { type: "button", ...attributes, on: { click: onClick } }, words);
}

/** A labeled control: the label's words before it. */
export function labeled(words, control, attributes = {}) {
  return el("label", attributes, el("span", {}, words), control);
}

/** A whole number with thin spaces between thousands. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** `1 plate`, `1 200 plates`. */
export function count(number, one, many = `${one}s`) {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}

/** A share, 0 to 1, in words. */
export function percent(share) {
  if (!share || share <= 0) return "0 %";
  return share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`;
}

/** Seconds in words. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child !== null && child !== false && child !== undefined) node.append(child);
  }
}
