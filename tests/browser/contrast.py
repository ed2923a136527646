"""Whether text can be read against what is behind it (WCAG 2: 4.5 to 1 at least), as an expression for the page."""

CONTRAST = """
(() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = (s) => s.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.9) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("dialog, script, svg")) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(e.tagName + "." + e.className + " " + ratio.toFixed(2));
  }
  return [...new Set(poor)];
})()
"""

SMALL = """
[...document.querySelectorAll("a, button, select, summary, label, input:not([type=checkbox], [type=range]), textarea")]
  .filter((e) => e.checkVisibility() && !e.closest("p, .skip") && !(e.matches("label") && e.querySelector("textarea")))
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([, box]) => box.width && box.height && (Math.round(box.height) < 40 || Math.round(box.width) < 40))
  .map(([e, box]) => `${e.outerHTML.slice(0, 90)} ${Math.round(box.width)} x ${Math.round(box.height)}`)
"""
"""Controls that are smaller than a fingertip, 40 CSS pixels a side; links inside a sentence are none."""
