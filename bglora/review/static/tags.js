// A caption as tags: what stands between commas. The server replaces in the same way, so that a preview holds.

/** The tags of a text, trimmed, empty ones left out. */
export function tagsOf(text) {
  return text.split(",").map((tag) => tag.trim()).filter(Boolean);
}

/** A caption with a tag, or a run of tags, replaced by none, one or several; compared whole. */
export function replaced(caption, find, replacement) {
  const [old, put] = [tagsOf(find), tagsOf(replacement)];
  if (!old.length) return caption;
  const tags = caption.split(",").map((tag) => tag.trim());
  const done = [];
  for (let place = 0; place < tags.length;) {
    if (old.every((tag, index) => tags[place + index] === tag)) {
      done.push(...put);
      place += old.length;
    } else {
      done.push(tags[place]);
      place += 1;
    }
  }
  return done.join(", ");
}

/** Every tag of these captions with the number of captions that have it, most frequent first. */
export function tagCounts(captions) {
  const found = new Map();
  for (const caption of captions) for (const tag of new Set(tagsOf(caption))) found.set(tag, (found.get(tag) || 0) + 1);
  return [...found].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}
