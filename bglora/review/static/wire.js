// The page's line to the server: state, acts one after the other, runs, and what the server tells on its own.

import { patch, project, receive } from "./store.js";
import { calm, tell, warn, whisper } from "./telling.js";

const HEADERS = { "Content-Type": "application/json", "X-Bglora": "1" };
const SETTLED_MS = 120;
const ECHO_MS = 1500;

let revision = "";
let line = Promise.resolve();
let last = null;
let waiting = 0;
let generation = 0;
let reloading = 0;
let timer = 0;
let actedAt = -1e9;

/** Asks for the state and shows it. Returns false where the server can't be reached or refuses. */
export async function reload() {
  const asked = ++reloading;
  let response;
  try {
    response = await fetch("/api/state");
  } catch {
    warn("The server does not answer.", "Is `bglora review` still running? Start it again and open the address it prints.");
    return false;
  }
  if (!response.ok) {
    await refused(response);
    return false;
  }
  const state = await response.json();
  if (asked !== reloading || waiting) return true; // a later answer is on its way
  revision = state.revision;
  receive(state);
  return true;
}

const JOINED = ["drop", "keep", "retry"];

/**
 * Does something to the project. Acts go out one after the other; what was asked on an outdated page is not done. Whoever
 * decides faster than the server answers has his drops, and his keeps, go out together.
 * @param {string} name
 * @param {object} fields
 * @param {(state: object) => void} [expected] shows the outcome before the server has answered
 * @returns {Promise<object|null>} the answer, or null where it was refused
 */
export function act(name, fields = {}, expected = null) {
  if (expected) patch(expected);
  if (last?.name === name && last.born === generation && JOINED.includes(name) && last.fields.stage === fields.stage) {
    last.fields.items = [...new Set([...last.fields.items, ...fields.items])];
    return last.done;
  }
  const job = { name, fields: { ...fields }, born: generation };
  last = job;
  waiting += 1;
  job.done = line.then(() => send(job)).finally(() => {
    waiting -= 1;
    if (!waiting) reloadSoon();
  });
  line = job.done.then(() => {}, () => {});
  return job.done;
}

async function send(job) {
  if (last === job) last = null;
  if (job.born !== generation) return null;
  const answer = await post("/api/act", { revision, act: job.name, ...job.fields });
  if (!answer) return null;
  revision = answer.revision;
  actedAt = performance.now();
  if (job.name !== "undo") patch((state) => { state.undo = answer.said; });
  calm();
  tell(answer.said, answer.stale || []);
  return answer;
}

/** Takes the last act back. */
export function undo() {
  if (project.state?.undo) act("undo");
  else whisper("There is nothing to undo.");
}

/** Starts a run up to a stage; null stands for all. */
export function run(to) {
  return post("/api/run", { to });
}

export function stop() {
  return post("/api/stop", {});
}

async function post(path, body) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: HEADERS, body: JSON.stringify(body) });
  } catch {
    warn("The server does not answer.", "Nothing was done. Is `bglora review` still running?");
    return null;
  }
  if (response.ok) return response.json();
  if (response.status === 409) generation += 1;
  await refused(response);
  reloadSoon();
  return null;
}

async function refused(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    told = { what: `The server answered ${response.status}.` };
  }
  if (response.status === 409) {
    const what = "The project was changed meanwhile, in another tab or by a command. This was not done.";
    warn(what, "The page shows what is there now; do it again if you still want it.");
    return;
  }
  warn(told.what || `The server answered ${response.status}.`, [told.where, told.cure].filter(Boolean).join(" \u2014 "));
}

/** Whether the news is of this page's own act, after which it has looked already. */
function isEcho() {
  return performance.now() - actedAt < ECHO_MS;
}

/** Looks at the project anew in a moment; several wishes are one. */
export function reloadSoon() {
  clearTimeout(timer);
  timer = setTimeout(reload, SETTLED_MS);
}

/**
 * Listens to the server. Changes by others reload the page's state; `heard` gets all other events.
 * @param {(event: object) => void} heard
 * @param {() => boolean} busy whether a run is at work: what it makes is looked at when a stage is done
 */
export function listen(heard, busy) {
  const source = new EventSource("/api/events");
  let lost = false;
  addEventListener("focus", reloadSoon); // back from a paint program: a picture edited there tells nobody
  source.addEventListener("open", () => {
    if (lost) reloadSoon(); // what happened in between was not heard
    lost = false;
  });
  source.addEventListener("error", () => {
    lost = true;
  });
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    if (event.event === "hello" && event.revision !== revision) reloadSoon(); // changed before anybody listened
    if (event.event !== "changed") {
      heard(event);
    } else if (!waiting && (event.revision !== revision || !(busy() || isEcho()))) {
      reloadSoon();
    }
  });
}
