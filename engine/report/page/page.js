"use strict";
// What both kinds of charts share: the data of the page, its colours, light and dark.
const lockstep = (() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const redraws = [];

  function bytes(text) {
    const letters = atob(text), found = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) found[i] = letters.charCodeAt(i);
    return found.buffer;
  }

  function steps(packed) {
    if ("first" in packed) return Float64Array.from({ length: packed.count }, (_, i) => packed.first + i);
    const buffer = bytes(packed.data);
    return packed.type === "f8" ? new Float64Array(buffer) : Float64Array.from(new Float32Array(buffer));
  }

  // Where a value is not finite there is a gap: null.
  const values = (text) => Array.from(new Float32Array(bytes(text)), (y) => (Number.isFinite(y) ? y : null));

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  function isDark() {
    if (root.dataset.theme) return root.dataset.theme === "dark";
    return matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function redraw() {
    for (const each of redraws) each();
  }

  // Storage may be forbidden, as it is in some browsers for files.
  function stored(theme) {
    try {
      if (theme) localStorage.setItem("lockstep-theme", theme);
      return localStorage.getItem("lockstep-theme");
    } catch {
      return null;
    }
  }

  const kept = stored();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  const button = document.getElementById("theme");
  const label = () => (button.textContent = isDark() ? "light" : "dark");
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    stored(root.dataset.theme);
    label();
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    label();
    redraw();
  });
  label();

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function figure(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 10000) return Math.round(value).toLocaleString("en");
    return size !== 0 && size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  }

  return { data, steps, values, colour, element, figure, onRedraw: (work) => redraws.push(work) };
})();
