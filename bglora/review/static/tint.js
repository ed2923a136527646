// Masks as numbers and as colors: 0 background, 128 effect (a shadow, a reflection), 255 object.

export const OBJECT = 255;
export const EFFECT = 128;
export const BACKGROUND = 0;

const COLORS = { [OBJECT]: [232, 72, 98, 190], [EFFECT]: [245, 176, 65, 190] };

/** Loads a picture; rejects where there is none. */
export function loadPicture(url) {
  return new Promise((resolve, reject) => {
    const picture = new Image();
    picture.addEventListener("load", () => resolve(picture));
    picture.addEventListener("error", () => reject(new Error(`no picture at ${url}`)));
    picture.src = url;
  });
}

/** A mask's picture as one number a pixel. */
export function maskValues(picture, width = picture.naturalWidth, height = picture.naturalHeight) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i += 1) {
    const level = pixels[i * 4];
    values[i] = level >= 192 ? OBJECT : level >= 64 ? EFFECT : BACKGROUND;
  }
  return values;
}

/** Colors part of a mask into a canvas that is as large as the mask. */
export function drawTint(context, values, { left, top, right, bottom }) {
  const width = context.canvas.width;
  const across = right - left;
  if (across <= 0 || bottom <= top) return;
  const image = context.createImageData(across, bottom - top);
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const color = COLORS[values[y * width + x]];
      if (color) image.data.set(color, ((y - top) * across + x - left) * 4);
    }
  }
  context.putImageData(image, left, top);
}
