// What failed, in every stage, and why; with a button that has the next run try it again.

import { button, el } from "./markup.js";
import { project } from "./store.js";
import { act } from "./wire.js";

/** Opens the list. */
export function showFailed() {
  const items = (project.state.failed || []).map(({ stage, what, reason }) =>
    el("li", {}, el("b", {}, `${stage}: ${what}`), el("p", { class: "soft" }, reason), button("Try again", (event) => again(event.target, stage, what))),
  );
  const dialog = el(
    "dialog",
    { class: "paper failed-list", "aria-label": "What failed" },
    el("h2", {}, "What failed"),
    el("ul", {}, items),
    el("div", { class: "ends" }, button("Close", () => dialog.close())),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

async function again(pressed, stage, what) {
  pressed.disabled = true;
  const done = await act("retry", { items: [what], stage });
  pressed.disabled = Boolean(done);
  if (done) pressed.textContent = "The next run tries it again";
}
