// The bar at the page's end: what decisions have made out of date, the run, how far it is, and its end.

import { showFailed } from "./failed.js";
import { button, count, duration, el, grouped, labeled, put, say } from "./markup.js";
import { remember, remembered } from "./memory.js";
import { project } from "./store.js";
import { tell, warn, whisper } from "./telling.js";
import { reloadSoon, run, stop } from "./wire.js";

/** Exit codes of a run that was stopped, and of one whose time was up. */
const STOPPED = [130, 75];

let parts;
let live = null;
let failures = 0;

/** Builds the bar into its place. */
export function buildRunning(bar) {
  const to = el("select", { on: { change: () => remember("to", to.value) } });
  parts = {
    to,
    words: el("p", { class: "stale", id: "stale" }),
    meter: el("progress", { max: 1, value: 0, "aria-label": "Progress of the stage" }),
    start: button("Run", () => start(), { class: "main", "aria-keyshortcuts": "Control+Enter" }),
    end: button("Stop", () => halt(), {}),
    failed: button("", () => showFailed(), { class: "failures" }),
  };
  parts.upTo = labeled("up to", to, { class: "up-to" });
  bar.replaceChildren(parts.words, parts.failed, parts.meter, parts.upTo, parts.start, parts.end);
}

/** Shows the state's stages, or the run. */
export function showRunning() {
  const { state } = project;
  if (state.running && !live) live = { ...state.running };
  fillStages(state.stages);
  const running = Boolean(live);
  const failing = (state.failed || []).length;
  parts.failed.hidden = !failing;
  say(parts.failed, `${failing} failed`);
  parts.meter.hidden = !running;
  parts.end.hidden = !running;
  parts.upTo.hidden = parts.start.hidden = running;
  if (running) return showLive();
  const words = stale(state.stages);
  say(parts.words, words ? `To make again: ${words}` : "Everything is up to date.");
  parts.words.classList.toggle("fine", !words);
  put(parts.words, "title", state.stages.flatMap((stage) => (stage.todo ? (stage.why || []).map((why) => `${stage.name}: ${why}`) : [])).join("\n") || null);
}

/** Stages with something to do: `inpaint 3`, and those that only what comes before them changes: `train`. */
function stale(stages) {
  const due = stages.filter((stage) => stage.todo || (stage.waits_for || []).length);
  return due.map((stage) => (stage.todo ? `${stage.name} ${grouped(stage.todo)}` : stage.name)).join(" \u00b7 ");
}

/** Whether a run is at work. */
export function busy() {
  return Boolean(live);
}

function fillStages(stages) {
  const names = stages.map((stage) => stage.name);
  if (parts.to.children.length !== names.length + 1) {
    parts.to.replaceChildren(...names.map((name) => el("option", { value: name }, name)), el("option", { value: "" }, "the end"));
    const wanted = remembered("to", "caption");
    parts.to.value = names.includes(wanted) || wanted === "" ? wanted : "";
  }
}

async function start() {
  failures = 0;
  const started = await run(parts.to.value || null);
  if (!started) return;
  live ??= { stage: "", done: 0, total: 0 };
  whisper("The run has started.");
  showRunning();
  parts.end.focus();
}

/** Starts the run from the keyboard. */
export function runByKey() {
  if (!live) start();
}

async function halt() {
  put(parts.end, "disabled", true);
  if (!(await stop())) put(parts.end, "disabled", false);
}

function showLive() {
  const { stage, done, total, item, left } = live;
  const words = [live.stopping ? "stopping: what is finished stays" : "", stage || "starting", total ? `${done} of ${total}` : "", item || "", left ? `${duration(left)} left` : ""];
  say(parts.words, words.filter(Boolean).join(" \u00b7 "));
  parts.words.classList.remove("fine");
  if (total) {
    parts.meter.max = total;
    parts.meter.value = Math.min(total, done + (live.part || 0));
  } else {
    parts.meter.removeAttribute("value");
  }
}

const HEARD = {
  "stage-started": (event) => {
    live = { stage: event.stage, done: 0, total: event.items, left: event.seconds_left };
    if (event.items) whisper(`${event.stage} has started: ${count(event.items, "item")}.`);
  },
  "item-started": (event) => Object.assign(live, { item: event.item, part: 0 }),
  "item-progress": (event) => Object.assign(live, { item: `${event.item} ${event.text || ""}`.trim(), part: event.total ? event.done / event.total : 0 }),
  "item-finished": (event) => Object.assign(live, { done: live.done + 1, part: 0, left: event.seconds_left }),
  "item-failed": (event) => {
    Object.assign(live, { done: live.done + 1, part: 0 });
    failures += 1;
    warn(`${event.stage}: ${event.what}`, [event.where, event.cure].filter(Boolean).join(" \u2014 "));
  },
  "run-started": () => {
    live = { stage: "", done: 0, total: 0 };
    failures = 0;
  },
  "run-stopping": () => { live.stopping = true; },
  "stage-finished": (event) => {
    reloadSoon();
    if (event.made) whisper(`${event.stage} has made ${count(event.made, "picture")}.`);
  },
};

/** An event of a run, as `--json` tells it. */
export function heardRun(event) {
  if (event.event === "error" && !STOPPED.includes(event.exit_code)) warn(event.what, [event.where, event.cure].filter(Boolean).join(" \u2014 "));
  if (event.event === "run-ended") ended(event.exit_code);
  if (event.event === "hello") live = event.running ? { ...event.running } : null;
  if (event.event === "hello") showRunning();
  if (!HEARD[event.event]) return;
  live ??= { stage: event.stage, done: 0, total: 0 };
  HEARD[event.event](event);
  showRunning();
}

function ended(code) {
  if (STOPPED.includes(code)) tell("The run was stopped. What was finished stays; the next run goes on.");
  else if (failures) tell(`The run is done; ${count(failures, "item")} failed.`);
  else if (!code) tell("The run is done.");
  live = null;
  put(parts.end, "disabled", false);
  const held = document.activeElement === parts.end;
  project.state.running = null;
  showRunning();
  if (held) parts.start.focus();
  reloadSoon();
}
