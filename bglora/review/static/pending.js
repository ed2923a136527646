// Decisions about scenes that the next run carries out: until then the scenes stand as they were sorted.

/**
 * What will become of scenes and plates.
 * @param {object} state the server's state
 * @param {Map<string, string>} sceneOf plate to the scene it is in
 * @returns {{scenes: Map<string, string>, plates: Map<string, string>}} scene to the one it becomes part of, and plate to
 *   the scene it goes to, "" for one of its own
 */
export function pending(state, sceneOf) {
  const scenes = new Map();
  const plates = new Map();
  const there = new Set(state.scenes.map((scene) => scene.id));
  for (const one of state.decisions || []) {
    if (one.merge) {
      for (const other of one.merge) if (there.has(other)) scenes.set(other, one.into);
    } else if (one.move) {
      for (const id of named(one.move, state)) if (sceneOf.get(id) !== one.into) plates.set(id, one.into);
    } else if (one.split) {
      for (const id of named(one.plates, state)) if (sceneOf.get(id) === one.split) plates.set(id, "");
    }
  }
  return { scenes, plates };
}

function named(patterns, state) {
  const plain = patterns.filter((name) => !/[*?[]/.test(name));
  const globs = patterns.filter((name) => /[*?[]/.test(name)).map(globRule);
  if (!globs.length) return plain;
  return [...plain, ...Object.keys(state.plates).filter((id) => globs.some((rule) => rule.test(id)))];
}

/** A shell pattern (`*`, `?`, `[abc]`, `[!abc]`) as a regular expression. */
function globRule(pattern) {
  const part = /\*|\?|\[(!?)([^\]]+)\]|[^*?[]+|\[/g;
  const rule = pattern.replace(part, (found, not, inside) => {
    if (found === "*") return ".*";
    if (found === "?") return ".";
    if (inside) return `[${not ? "^" : ""}${inside.replace(/[\\^\]]/g, "\\$&")}]`;
    return found.replace(/[.+^${}()|[\]\\/*?]/g, "\\$&");
  });
  return new RegExp(`^${rule}$`, "s");
}
