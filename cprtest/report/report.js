// SPDX-License-Identifier: GPL-2.0-or-later
// The matrix of tests by machines with all their variants, its filters, and the window for one result.

const $ = (id) => document.getElementById(id);
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

const tip = document.body.appendChild(document.createElement("div"));
tip.id = "tip";
tip.hidden = true;
const showTip = (text, x, y) => {
  // In an open dialog, which covers everything else; else on the page.
  const layer = $("detail").open ? $("detail") : document.body;
  if (tip.parentNode !== layer) layer.appendChild(tip);
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const above = y + 18 + tip.offsetHeight > innerHeight;
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(8, above ? y - tip.offsetHeight - 12 : y + 18) + "px";
};

async function main() {
  const [signs, { hosts, lost, tests }] = await Promise.all([unpack("signs"), unpack("index")]);
  let shown = []; // places in `tests`, in the order of the page

  // --- the matrix
  const words = (test) => [test.status + (test.variant ? ", " + test.variant : ""), hosts.length > 1 ? hosts[test.host] : "",
    test.defect, test.reason, test.change].filter(Boolean).join("\n");
  const cell = (places) => places.map((place) => {
    const test = tests[place], alone = places.length === 1, marks = `r ${test.status}${alone ? "" : " c"}${test.change ? " changed" : ""}`;
    const label = alone ? "" : ` aria-label="${esc(test.status + " " + (test.variant || ""))}"`;
    return `<a class="${marks}" href="#t${place + 1}" data-place="${place}" tabindex="-1"${label}>${signs[test.status]}${alone ? " " + test.status : ""}</a>` +
      (alone && hosts.length === 1 && test.reason ? `<div class="soft reason">${esc(test.defect ? test.defect + ": " : "")}${esc(short(test.reason))}</div>` : "");
  }).join("");
  const short = (text) => (text.length > 240 ? text.slice(0, 240) + " ..." : text);
  const took = (row) => {
    const times = row.flat().map((place) => tests[place].took || 0).sort((a, b) => a - b);
    return (times.length > 1 ? seconds(times[0]) + " to<br>" : "") + seconds(times.at(-1));
  };
  function draw() {
    const pressed = new Set([...document.querySelectorAll("[data-status][aria-pressed=true]")].map((chip) => chip.dataset.status));
    const looked = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const changed = $("changed")?.getAttribute("aria-pressed") === "true";
    const rows = new Map();
    tests.forEach((test, place) => {
      if (!pressed.has(test.status) || (changed && !test.change)) return;
      if (looked.length) {
        const text = `${test.name} ${test.promise} ${words(test)} ${hosts[test.host]} ${test.lane}`.toLowerCase();
        if (!looked.every((word) => text.includes(word))) return;
      }
      if (!rows.has(test.name)) rows.set(test.name, hosts.map(() => []));
      rows.get(test.name)[test.host].push(place);
    });
    shown = [...rows.values()].flat(2);
    let file = "", html = `<table class="matrix"><thead><tr><th class="wide">Test</th>` + hosts.map((host, n) =>
      `<th>${esc(host)}${lost.includes(host) ? ' <span class="FAIL">vanished</span>' : ""}</th>`).join("") + '<th class="number took">Took</th></tr></thead><tbody>';
    for (const [name, row] of rows) {
      const [where, what] = [name.slice(0, name.indexOf(":")), name.slice(name.indexOf(":") + 1)];
      if (where !== file) html += `<tr class="group"><th colspan="${hosts.length + 2}">${esc((file = where))}</th></tr>`;
      html += `<tr><th scope="row">${esc(tests[row.flat()[0]].promise || what)}<br><span class="name">${esc(what)}</span></th>` +
        row.map((places, n) => `<td${hosts.length > 1 ? ` data-is="${esc(hosts[n])}"` : ""}>${cell(places)}</td>`).join("") +
        `<td class="number" data-is="took">${took(row)}</td></tr>`;
    }
    $("matrix").innerHTML = rows.size ? html + "</tbody></table>" : "<p>No test fits. Press a status, or empty the search.</p>";
    $("shown").textContent = `${shown.length} of ${tests.length}`;
    $("matrix").querySelector("[data-place]")?.setAttribute("tabindex", "0");
  }
  function measure() {
    document.documentElement.style.setProperty("--below", getComputedStyle(document.querySelector(".tools")).position === "sticky"
      ? document.querySelector(".tools").offsetHeight + "px" : "0px");
  }
  const link = (place) => $("matrix").querySelector(`[data-place="${place}"]`);
  function go(place) {
    $("matrix").querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    const next = link(place);
    next?.setAttribute("tabindex", "0");
    next?.focus();
  }
  // The nearest result above or below the one that has the focus. Signs come from different fonts: look at middles.
  const middle = (element) => { const box = element.getBoundingClientRect(); return [box.left, (box.top + box.bottom) / 2]; };
  function vertical(from, down) {
    const [x, y] = middle(from), row = from.closest("tr"), below = (b) => (middle(b)[1] - y) * (down ? 1 : -1) > 10;
    const lines = [...$("matrix").querySelectorAll("tr:has([data-place])")];
    const others = [...row.querySelectorAll("[data-place]")].filter(below);
    const nextRow = lines[lines.indexOf(row) + (down ? 1 : -1)];
    const candidates = others.length ? others : nextRow ? [...nextRow.querySelectorAll("[data-place]")] : [];
    const distance = (b) => { const [left, level] = middle(b); return Math.abs(level - y) * 4 + Math.abs(left - x); };
    return candidates.sort((a, b) => distance(a) - distance(b))[0];
  }
  $("matrix").addEventListener("keydown", (event) => {
    const from = event.target.closest("[data-place]");
    if (!from) return;
    const at = shown.indexOf(+from.dataset.place);
    const to = { ArrowRight: shown[at + 1], ArrowLeft: shown[at - 1], Home: shown[0], End: shown.at(-1),
      ArrowDown: vertical(from, true)?.dataset.place, ArrowUp: vertical(from, false)?.dataset.place }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(+to);
  });

  // --- one result
  let current = -1, drawn = 0;
  async function open() {
    const found = /^#t(\d+)$/.exec(location.hash), place = found ? +found[1] - 1 : -1;
    if (!tests[place]) return $("detail").open && $("detail").close();
    const test = tests[place], mine = ++drawn;
    current = place;
    showTip("");
    const at = shown.indexOf(place);
    $("place").textContent = at < 0 ? `result ${place + 1} of ${tests.length}` : `${at + 1} of ${shown.length}`;
    $("before").disabled = at <= 0;
    $("after").disabled = at < 0 || at === shown.length - 1;
    $("card").innerHTML = heading(test, hosts[test.host], signs[test.status]);
    if (!$("detail").open) $("detail").showModal();
    $("detail").scrollTop = 0;
    const data = test.evidence ? await unpack("e" + (place + 1)) : null;
    if (mine !== drawn) return;
    $("card").insertAdjacentHTML("beforeend", evidence(test, data));
    for (const frame of $("card").querySelectorAll(".drawing")) liven(frame);
  }
  const step = (by) => {
    const next = shown[shown.indexOf(current) + by];
    if (shown.includes(current) && next !== undefined) history.replaceState(null, "", "#t" + (next + 1)), open();
  };
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("close", () => {
    if (/^#t\d+$/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
    showTip("");
    if (link(current)) go(current);
  });
  $("detail").addEventListener("click", (event) => event.target === $("detail") && $("detail").close());
  $("detail").addEventListener("keydown", (event) => {
    if (event.target.closest("pre, input") || event.ctrlKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  // --- reasons and shapes under the pointer, or focused
  const said = (target) => {
    const result = target.closest?.("[data-place]");
    return result ? words(tests[result.dataset.place]) : target.closest?.("[data-tip]")?.dataset.tip;
  };
  document.addEventListener("pointermove", (event) => event.pointerType !== "touch" && showTip(said(event.target), event.clientX, event.clientY));
  document.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    showTip(event.target.matches("[data-place]:focus-visible") ? said(event.target) : "", box.left, box.bottom - 12);
  });

  addEventListener("scroll", () => showTip(""), { passive: true });

  // --- filters
  let pause = 0;
  $("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(draw, 120); });
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      draw();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || $("detail").open || event.target.matches("input")) return;
    event.preventDefault();
    $("search").focus();
  });
  addEventListener("hashchange", open);

  document.querySelector(".tools").hidden = $("keys").hidden = false;
  measure();
  addEventListener("resize", measure);
  draw();
  await open();
  // For the test that opens the page in a browser: ms from the beginning of the navigation until all is painted.
  await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
  document.documentElement.dataset.ready = Math.round(performance.now());
}

main().catch((error) => {
  $("matrix").textContent = `This page could not be shown: ${error}. The same is in results.json and results.tap beside this directory.`;
});
