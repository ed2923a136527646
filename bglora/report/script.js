"use strict";
// A viewer for the galleries: click a picture, or press Enter on a strip; the arrow keys go on, Escape closes.
(() => {
  const viewer = document.getElementById("viewer");
  const stage = document.getElementById("viewer-picture");
  const words = document.getElementById("viewer-words");
  const origin = document.getElementById("origin");
  const pixels = document.getElementById("viewer-origin");
  let pictures = [];
  let at = 0;

  const wordsOf = (picture) => {
    const caption = picture.parentElement.querySelector("figcaption");
    const alt = picture.querySelector("img").alt;
    if (!caption) return alt;
    return [alt, ...[...caption.childNodes].map((node) => node.textContent.trim())].filter(Boolean).join(" · ");
  };

  const show = (index) => {
    at = (index + pictures.length) % pictures.length;
    stage.replaceChildren(pictures[at].cloneNode(true));
    words.textContent = wordsOf(pictures[at]);
    pixels.setAttribute("aria-pressed", String(Boolean(origin && origin.checked)));
  };

  const open = (gallery, picture) => {
    pictures = [...gallery.querySelectorAll(".pic:not(.card)")];
    if (!pictures.length) return;
    pixels.hidden = !gallery.querySelector(".layer");
    show(Math.max(0, pictures.indexOf(picture)));
    if (!viewer.open) viewer.showModal();
  };

  for (const gallery of document.querySelectorAll("[data-gallery]")) {
    gallery.classList.add("zoomable");
    gallery.addEventListener("click", (event) => {
      const picture = event.target.closest(".pic:not(.card)");
      if (picture) open(gallery, picture);
    });
    gallery.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target !== gallery) return;
      event.preventDefault(); // else the same key press goes on to the viewer's first button
      open(gallery, null);
    });
    if (!gallery.hasAttribute("tabindex")) gallery.tabIndex = 0;
  }

  document.getElementById("viewer-back").addEventListener("click", () => show(at - 1));
  document.getElementById("viewer-next").addEventListener("click", () => show(at + 1));
  document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  pixels.addEventListener("click", () => {
    origin.checked = !origin.checked;
    show(at);
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(at - 1);
    if (event.key === "ArrowRight") show(at + 1);
  });
})();
