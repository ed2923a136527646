// What the page knows of the project: the server's last answer, and what follows from it.

import { count } from "./markup.js";
import { pending } from "./pending.js";

const listeners = new Set();

/** The server's state with indexes beside it. Read only; `receive` and `patch` change it. */
export const project = {
  state: null,
  /** plate to its scene's id; plates in no scene are missing */
  sceneOf: new Map(),
  scenes: new Map(),
  /** what the next run makes of scenes and plates, see `pending` */
  coming: { scenes: new Map(), plates: new Map() },
};

/** Calls the listener after every change. */
export function onChange(listener) {
  listeners.add(listener);
}

/** Takes over a state from the server. */
export function receive(state) {
  project.state = state;
  project.scenes = new Map(state.scenes.map((scene) => [scene.id, scene]));
  project.sceneOf = new Map();
  for (const scene of state.scenes) for (const id of scene.plates) project.sceneOf.set(id, scene.id);
  project.coming = pending(state, project.sceneOf);
  changed();
}

/** Shows at once what an act will do; the server's next state has the last word. */
export function patch(change) {
  change(project.state);
  project.coming = pending(project.state, project.sceneOf);
  changed();
}

export function plate(id) {
  return project.state.plates[id];
}

export function titleOf(sceneId) {
  const scene = project.scenes.get(sceneId);
  return scene ? scene.title || scene.id : sceneId;
}

/** Where a plate goes with the next run, in words; null where it stays. */
export function becomes(id) {
  const to = project.coming.plates.get(id);
  if (to === undefined) return null;
  return to === "" ? "a new scene" : titleOf(to);
}

/** The scene that a scene becomes part of, by its title; null where it stays. */
export function mergedInto(sceneId) {
  const into = project.coming.scenes.get(sceneId);
  return into === undefined ? null : titleOf(into);
}

/** The address of a picture; `v` changes with its content, so that the browser may keep it. */
export function pictureUrl(kind, id, width) {
  const version = plate(id)?.v;
  const path = id.split("/").map(encodeURIComponent).join("/");
  return `/picture/${kind}/${path}?w=${width}${version ? `&v=${encodeURIComponent(version)}` : ""}`;
}

/** What a picture is now: `kept`, `dropped`, `failed`, `made`, with a person's word before a stage's. */
export function standing(one) {
  if (one.decision === "drop") return "dropped";
  if (one.decision === "keep") return "kept";
  return one.status;
}

const FILTERS = {
  all: () => true,
  undecided: (one) => !one.decision,
  kept: (one) => standing(one) === "kept",
  dropped: (one) => standing(one) === "dropped",
  failed: (one) => one.status === "failed",
  guessed: (one) => (one.guessed || 0) + (one.untrusted || 0) > 0.05,
  edited: (one) => (one.edited || []).length > 0,
};

/**
 * Plates in groups: by shot or by scene, empty groups left out.
 * @returns {{kind: string, id: string, title: string, words: string, plates: string[]}[]} `kind` is shot, scene, noise
 *   or rest; `plates` are those that the filter lets through
 */
export function groups(by, filter) {
  const wanted = FILTERS[filter] || FILTERS.all;
  const all = by === "scene" ? sceneGroups() : shotGroups();
  const shown = all.map((group) => ({
    ...group,
    whole: group.plates,
    plates: group.plates.filter((id) => plate(id) && wanted(plate(id))),
  }));
  return shown.filter((group) => group.plates.length);
}

function shotGroups() {
  return project.state.shots.map((shot) => ({
    kind: "shot",
    id: shot.name,
    title: shot.name,
    words: [platesAmong(shot.frames), scenesAmong(shot.frames), ...notes(shot.notes)].filter(Boolean).join(" · "),
    plates: shot.frames,
  }));
}

/** `30 plates`; frames that have no plate, dropped or not there yet, are counted apart. */
export function platesAmong(ids) {
  const made = ids.filter((id) => plate(id)?.status === "made").length;
  const rest = ids.length - made;
  return [(made || !rest) && count(made, "plate"), rest && `${count(rest, "frame")} without a plate`].filter(Boolean).join(", ");
}

function scenesAmong(ids) {
  const found = new Set(ids.map((id) => project.sceneOf.get(id)).filter(Boolean));
  return [...found].map(titleOf).join(", ");
}

function notes(value) {
  return Array.isArray(value) ? value : value ? [value] : [];
}

/** A scene in a line: its id, how many plates, what becomes of it. */
export function sceneWords(scene, ...more) {
  const into = mergedInto(scene.id);
  return [scene.id, count(scene.plates.length, "plate"), ...more, into && `becomes part of ${into}`].filter(Boolean).join(" · ");
}

function sceneGroups() {
  const { scenes, noise, shots } = project.state;
  const found = scenes.map((scene) => ({
    kind: "scene",
    id: scene.id,
    title: scene.title || scene.id,
    words: sceneWords(scene),
    plates: scene.plates,
  }));
  const lost = new Set(noise);
  const words = `${count(noise.length, "plate")} · keep one to give it back`;
  if (noise.length) found.push({ kind: "noise", id: "noise", title: "In no scene", words, plates: noise });
  const rest = shots.flatMap((shot) => shot.frames).filter((id) => !project.sceneOf.has(id) && !lost.has(id));
  if (rest.length) {
    found.push({ kind: "rest", id: "rest", title: "Not sorted", words: platesAmong(rest), plates: rest });
  }
  return found;
}

/** The shortest names for these plates: `shot/*` where a whole shot is meant. */
export function shortest(ids) {
  const wanted = new Set(ids);
  const names = [];
  for (const shot of project.state.shots) {
    const inside = shot.frames.filter((id) => wanted.has(id));
    const whole = inside.length > 1 && inside.length === shot.frames.length && !/[*?[\]]/.test(shot.name);
    if (whole) names.push(`${shot.name}/*`);
    else names.push(...inside);
    for (const id of inside) wanted.delete(id);
  }
  return [...names, ...wanted];
}

function changed() {
  for (const listener of listeners) listener();
}
