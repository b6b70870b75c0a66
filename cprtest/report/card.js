// SPDX-License-Identifier: GPL-2.0-or-later
// One result as HTML: what the test promises, how it ended, and its evidence.

const esc = (text) => String(text ?? "").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const seconds = (value = 0) =>
  value < 10 ? value.toFixed(2) + " s" : value < 100 ? value.toFixed(0) + " s" : `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
const ms = (value) => (typeof value === "number" ? value.toFixed(2) + " ms" : "not measured");
const pairs = (items) => "<dl>" + items.filter(([, value]) => value).map(([name, value]) =>
  `<div><dt>${esc(name)}</dt><dd class="reason">${esc(value)}</dd></div>`).join("") + "</dl>";

// columns: [heading, how to show the value of a row, whether it is a number]
const table = (caption, columns, rows) => !rows.length ? "" : `<div class="scroll"><table><caption>${caption}</caption><thead><tr>` +
  columns.map(([name, , number]) => `<th${number ? ' class="number"' : ""}>${name}</th>`).join("") + "</tr></thead><tbody>" +
  rows.map((row) => "<tr>" + columns.map(([, show, number]) => `<td${number ? ' class="number"' : ""}>${esc(show(row))}</td>`).join("") +
    "</tr>").join("") + "</tbody></table></div>";

function logs(files) {
  if (!files.length) return "";
  const links = files.map((file) => `<a href="${esc(file.link)}">${esc(file.name)}</a>`).join(", ");
  return `<p class="soft">Files: ${links}</p>` + files.filter((file) => file.tail).map((file) =>
    `<details><summary>The end of ${esc(file.name)}</summary><pre tabindex="0">${esc(file.tail)}</pre></details>`).join("");
}

function transfer(data) {
  const survivor = data.survivor ? ", the guest runs on: " + esc(data.survivor) : "";
  const faults = data.faults.map((f) => `${f.name} (${f.side}, ${f.phase}, ${f.struck ? "struck" : "did not strike"})`).join("; ");
  const qemu = Object.entries(data.qemu).map(([side, version]) => `${side} ${version}`).join(", ");
  const edge = (value, otherwise) => (typeof value === "number" ? ms(value) : otherwise);
  return `<h3>Transfer${data.place ? " " + esc(data.place) : ""}${data.status ? ": " + esc(data.status) : ""}${survivor}</h3>` +
    data.unreadable.map((sentence) => `<p class="problem">${esc(sentence)}</p>`).join("") +
    data.violations.map((sentence) => `<p class="problem"><strong>Violated.</strong> ${esc(sentence)}</p>`).join("") +
    // The drawing was found to be shapes and text only when the report was written, or is an image.
    (data.drawing ? `<div class="drawing">${data.drawing}</div>` : "") + '<div class="side">' +
    table("Phases", [["Phase", (r) => r[0]], ["Begins", (r) => ms(r[1]), true], ["Takes", (r) => ms(r[2]), true]], data.phases) +
    table("Downtime", [["Seen by", (r) => r[0]], ["Length", (r) => ms(r[1]), true]], Object.entries(data.downtime)) + "</div>" +
    table("Ownership", [["Device", (r) => r.device], ["Queue", (r) => r.queue], ["Owner", (r) => r.owner],
      ["From", (r) => edge(r.start, "before"), true], ["To", (r) => edge(r.end, "to the end"), true]], data.ownership) +
    (faults ? `<p>Faults: ${esc(faults)}</p>` : "") +
    (data.checks.length ? '<ul class="checks">' + data.checks.map((check) => `<li>${check.ok ? "✓" : '<strong class="FAIL">✗</strong>'} ` +
      `${esc(check.name)}${check.message ? ": " + esc(check.message) : ""}</li>`).join("") + "</ul>" : "") +
    (qemu ? `<p class="soft">QEMU: ${esc(qemu)}</p>` : "") + logs(data.logs);
}

function evidence(test, data) {
  if (!test.evidence) return test.directory ? '<p class="soft">Its evidence is not in this file, only in its directory.</p>' : "";
  return (data.more ? `<p>${data.more} more transfers are in its directory.</p>` : "") +
    (data.whole ? "" : '<p class="soft">Drawings and logs are not in this file, only in its directory.</p>') +
    data.transfers.map(transfer).join("") + logs(data.logs);
}

const heading = (test, host, sign) => `<h2>${badge(test.status, sign)} ${esc(test.promise || test.name)}</h2>` +
  `<p class="name">${esc(test.name)}</p>` + pairs([
  ["variant", test.variant], ["machine", host], ["lane", test.lane], ["took", seconds(test.took)], ["known defect", test.defect],
  ["since the earlier run", test.change], [test.status === "PASS" ? "note" : "reason", test.reason],
  ...Object.entries(test.reasons || {}).filter(([, reason]) => reason !== test.reason).map(([lane, reason]) => [`in lane ${lane}`, reason]),
]) + (test.directory ? `<p class="soft">Directory: <a href="${esc(test.directory)}">${esc(test.directory.slice(3))}</a>` +
  " (beside the report, not in a mailed copy)</p>" : "");
const badge = (name, sign) => `<span class="status ${esc(name)}">${sign} ${esc(name)}</span>`;
