// A scene's LoRA: what the test said of it, and its grid, on which a click chooses checkpoint and scale.

import { button, el, put, say, sentence } from "./markup.js";
import { sceneMenu } from "./scenemenu.js";
import { project, titleOf } from "./store.js";
import { act } from "./wire.js";

let scene = null;
let seen = null;
let parts;

export function buildLoras(section, open) {
  const menu = sceneMenu((id) => open("loras", id));
  parts = {
    menu,
    empty: el("p", { class: "empty", hidden: true }),
    chosen: el("p", { class: "scale", "aria-live": "polite" }),
    verdict: el("ul", { class: "words" }),
    checkpoints: el("div", { class: "checkpoints" }),
    grid: el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Test pictures: prompts by scales" }),
  };
  parts.all = el("div", {}, el("div", { class: "lora-said" }, parts.chosen, parts.verdict), parts.checkpoints, parts.grid);
  section.replaceChildren(el("h2", { class: "unseen" }, "LoRAs"), menu.element, parts.empty, parts.all);
}

export function showLoras(wanted) {
  const { scenes } = project.state;
  if (wanted && wanted !== scene) [scene, seen] = [wanted, null];
  if (!project.scenes.has(scene)) [scene, seen] = [scenes[0]?.id ?? null, null];
  parts.menu.show(scene);
  const lora = scene ? project.scenes.get(scene).lora : null;
  parts.all.hidden = !lora;
  parts.empty.hidden = Boolean(lora);
  say(parts.empty, scene ? `${titleOf(scene)} has no tested LoRA yet: run the pipeline up to test.` : "There are no scenes yet.");
  if (!lora) return;
  seen ??= used(lora).checkpoint;
  showChoice(lora);
  showVerdict(lora);
  showCheckpoints(lora);
  showGrid(lora);
}

/** What the scene is composed with: a person's choice, where he made none, the test's. */
function used(lora) {
  const { chosen, recommended, checkpoints } = lora;
  return {
    checkpoint: chosen?.checkpoint || recommended?.checkpoint || checkpoints[0] || "",
    scale: chosen?.scale || recommended?.scale || 0,
    by: chosen ? "you" : "test",
  };
}

/** The part of the grid's folder that names a LoRA file: `final`, or its training step in six digits. */
function stepOf(file) {
  return /step-(\d+)\.safetensors$/.exec(file)?.[1] ?? "final";
}

function choose(checkpoint, scale) {
  const of = scene;
  act("choose", { scene: of, checkpoint, scale }, (state) => {
    const { lora } = state.scenes.find((one) => one.id === of);
    lora.chosen = { checkpoint, scale };
  });
}

function showChoice(lora) {
  const { scale, by } = used(lora);
  const from = by === "you" ? "chosen by you" : "recommended by the test";
  const words = !scale ? ["no scale is recommended"] : ["use it at ", el("strong", {}, String(scale)), el("span", { class: "soft" }, ` ${from}`)];
  parts.chosen.replaceChildren(...words);
}

function showVerdict(lora) {
  const items = (lora.verdict || []).map(({ word, cure }) =>
    el("li", { class: word === "good" ? "fine" : "" }, el("b", {}, word), cure ? el("p", {}, sentence(cure)) : null),
  );
  parts.verdict.replaceChildren(...items);
}

function showCheckpoints(lora) {
  const all = lora.checkpoints || [];
  parts.checkpoints.hidden = all.length < 2;
  const look = (name) => {
    seen = name;
    showLoras();
    parts.checkpoints.querySelector("[aria-pressed='true']")?.focus();
  };
  const items = all.map((file) => {
    const words = file === lora.recommended?.checkpoint ? "recommended" : "";
    const name = stepOf(file) === "final" ? "finished" : `step ${Number(stepOf(file))}`;
    return button([el("b", {}, name), " ", el("span", { class: "soft" }, words)], () => look(file), { "aria-pressed": String(file === seen), title: file });
  });
  parts.checkpoints.replaceChildren(el("h4", {}, "Checkpoints"), el("div", { class: "either" }, items));
}

function showGrid(lora) {
  const cells = gridOf(lora);
  const scales = [...new Set(cells.map((one) => one.scale))].sort((a, b) => a - b);
  const prompts = [...new Set(cells.map((one) => one.prompt))].sort((a, b) => a - b);
  const by = new Map();
  for (const one of cells) by.set(`${one.prompt} ${one.scale}`, [...(by.get(`${one.prompt} ${one.scale}`) || []), one]);
  const now = used(lora);
  const chosen = (scale) => now.scale === scale && now.checkpoint === seen;
  const heads = scales.map((scale) => el("th", { scope: "col", class: chosen(scale) ? "chosen-column" : "" }, head(scale, chosen(scale))));
  const lines = prompts.map((prompt) => {
    const words = lora.prompts?.[prompt] || `prompt ${prompt + 1}`;
    const tds = scales.map((scale) => el("td", { class: chosen(scale) ? "chosen-column" : "" }, seeds(by.get(`${prompt} ${scale}`) || [], scale, prompt)));
    return el("tr", {}, el("th", { scope: "row" }, words), tds);
  });
  const held = document.activeElement?.dataset?.scale;
  parts.grid.replaceChildren(el("table", { class: "grid-table" }, el("thead", {}, el("tr", {}, el("td", {}), heads)), el("tbody", {}, lines)));
  if (held) parts.grid.querySelector(`thead [data-scale="${CSS.escape(held)}"]`)?.focus();
}

/** The pictures of the LoRA file that is looked at; those of the recommended one stand in the grid's own folder. */
function gridOf(lora) {
  const recommended = !lora.recommended?.checkpoint || seen === lora.recommended.checkpoint;
  const step = recommended ? "" : stepOf(seen);
  return (lora.grid || []).filter((one) => one.prompt !== undefined && one.step === step);
}

function head(scale, on) {
  if (scale === 0) return el("span", { class: "soft" }, "base alone");
  return button(on ? `\u2713 scale ${scale}` : `scale ${scale}`, () => choose(seen, scale), {
    "aria-pressed": String(on), "data-scale": scale, title: `Use this LoRA at ${scale}`,
  });
}

function seeds(cells, scale, prompt) {
  const pictures = cells.map((one) => {
    const alt = `Prompt ${prompt + 1}, scale ${scale}, seed ${one.seed}`;
    const image = el("img", { src: gridUrl(one.file), alt, loading: "lazy", decoding: "async" });
    if (scale === 0) return image;
    const pick = button(image, () => choose(seen, scale), { class: "pick", "data-scale": scale, tabindex: -1 });
    put(pick, "aria-label", `Use scale ${scale}: ${alt}`);
    return pick;
  });
  return el("div", { class: "seeds" }, pictures);
}

function gridUrl(file) {
  return `/grid/${[scene, ...file.split("/")].map(encodeURIComponent).join("/")}`;
}
