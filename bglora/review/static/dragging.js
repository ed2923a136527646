// Dragging by mouse: plates onto scenes, scenes onto scenes. Whatever can be dragged can be done by keys and menus, too.

let carried = null;

/** What is dragged now: `{plates: […]}`, `{scene: id}` or null. */
export function dragged() {
  return carried;
}

/** Plates can be dragged out of a gallery: the chosen ones, if the one under the mouse is among them. */
export function dragPlates(host, selection) {
  host.addEventListener("dragstart", (event) => {
    const id = event.target.closest?.(".cell")?.dataset.id;
    if (!id) return;
    const plates = selection.chosen.has(id) ? selection.meant() : [id];
    begin(event, { plates }, plates.join("\n"));
    event.dataTransfer.setDragImage(event.target.querySelector(".thumb"), 20, 20);
  });
  host.addEventListener("dragend", end);
}

/** A scene's card can be dragged. */
export function dragScene(node, id) {
  node.addEventListener("dragstart", (event) => begin(event, { scene: id }, id));
  node.addEventListener("dragend", end);
}

/**
 * Something can be dropped here.
 * @param {(what: object) => boolean} welcome whether what is dragged may be dropped here
 * @param {(what: object) => void} taken
 */
export function dropHere(node, welcome, taken) {
  node.addEventListener("dragover", (event) => {
    if (!carried || !welcome(carried)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "move";
    node.classList.add("over");
  });
  node.addEventListener("dragleave", (event) => {
    if (!node.contains(event.relatedTarget)) node.classList.remove("over");
  });
  node.addEventListener("drop", (event) => {
    node.classList.remove("over");
    if (!carried || !welcome(carried)) return;
    event.preventDefault();
    const what = carried;
    end();
    taken(what);
  });
}

function begin(event, what, text) {
  carried = what;
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", text);
  document.body.classList.add(what.plates ? "dragging-plates" : "dragging-scene");
}

function end() {
  carried = null;
  document.body.classList.remove("dragging-plates", "dragging-scene");
}
