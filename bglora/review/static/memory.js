// What the browser remembers between visits: how things are shown, nothing about the project.

export function remembered(key, otherwise) {
  try {
    return localStorage.getItem(`bglora.${key}`) ?? otherwise;
  } catch {
    return otherwise; // a browser that keeps nothing
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(`bglora.${key}`, value);
  } catch {
    return; // the same browser: shown as asked now, and as ever next time
  }
}
