// SPDX-License-Identifier: GPL-2.0-or-later
// Zoom, pan and quick tooltips for a timeline in its frame.

function liven(frame) {
  const svg = frame.querySelector("svg");
  if (!svg) return;
  const whole = svg.viewBox.baseVal, full = [whole.x, whole.y, whole.width, whole.height];
  let view = full.slice();

  const show = () => {
    view[2] = Math.min(view[2], full[2]);
    view[3] = view[2] * full[3] / full[2];
    view[0] = Math.max(0, Math.min(view[0], full[2] - view[2]));
    view[1] = Math.max(0, Math.min(view[1], full[3] - view[3]));
    svg.setAttribute("viewBox", view.join(" "));
    frame.classList.toggle("zoomed", view[2] < full[2]);
  };
  // The point (x, y), in parts of what is seen, stays where it is.
  const zoom = (factor, x = 0.5, y = 0.5) => {
    const width = Math.max(full[2] / 40, Math.min(full[2], view[2] / factor)), shrink = width / view[2];
    view = [view[0] + x * view[2] * (1 - shrink), view[1] + y * view[3] * (1 - shrink), width, 0];
    show();
  };

  const buttons = frame.appendChild(document.createElement("div"));
  buttons.className = "buttons";
  for (const [sign, name, act] of [["+", "Zoom in", () => zoom(1.6)], ["\u2212", "Zoom out", () => zoom(1 / 1.6)],
    ["\u21ba", "Show all", () => { view = full.slice(); show(); }]]) {
    const button = buttons.appendChild(document.createElement("button"));
    button.textContent = sign;
    button.title = name + " (or Ctrl and the wheel; drag to move)";
    button.addEventListener("click", act);
  }
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });
  svg.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1)) return;
    const perPixel = view[2] / svg.getBoundingClientRect().width;
    view[0] -= event.movementX * perPixel;
    view[1] -= event.movementY * perPixel;
    show();
  });

  for (const title of svg.querySelectorAll("title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
}

