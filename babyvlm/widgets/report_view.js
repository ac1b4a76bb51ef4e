// The front end of `babyvlm.widgets.report_view`: one ES module, no build step, nothing from the network.
// Python reads the report; this page asks for it once ("hello") and draws it. Only the open task and the chosen learner are synced.

// ---- numbers, pure ----
export const hundred = (share) => String(Math.round(100 * share));
export const within = (s) => `${hundred(s.score)} (${hundred(s.lo)}–${hundred(s.hi)})`;
export const signed = (v) => `${v < 0 ? "−" : "+"}${Math.abs(100 * v).toFixed(1)}`;
export const many = (words) => (words >= 1e6 ? `${+(words / 1e6).toPrecision(3)} million` : Math.round(words).toLocaleString("en"));
export const logX = (words, lo, hi, left, right) => left + (right - left) * (Math.log10(words) - lo) / (hi - lo);
export function spread(wanted, gap) {                 // heights near those wanted that do not overlap
  const order = wanted.map((_, k) => k).sort((a, b) => wanted[a] - wanted[b]), found = [...wanted];
  let last = -Infinity;
  for (const k of order) found[k] = last = Math.max(wanted[k], last + gap);
  const shift = (found.reduce((a, b) => a + b, 0) - wanted.reduce((a, b) => a + b, 0)) / Math.max(1, wanted.length);
  return found.map((h) => h - shift);
}
const GRADES = { can: "can", emerging: "emerging", cue: "colour is enough", partly: "unclear", chance: "not yet", below: "below guessing", few: "too few trials" };  // the report's own words
const NAMES = { chance: "guessing", untrained: "untrained twin", text_blind: "without words", image_blind: "without pictures", shuffled: "mixed up", shortcut: "best shortcut" };

function tag(name, className, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  node.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}
const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat());
  return node;
}
const label = (text, attributes) => svg("text", { class: "br-label", ...attributes }, document.createTextNode(text));
const dot = (k, x, y, r = 5) => (k % 4 === 1 ? svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, class: "br-fill" }) : k % 4 === 2 ? svg("path", { d: `M${x} ${y - r - 1}L${x + r + 1} ${y}L${x} ${y + r + 1}L${x - r - 1} ${y}Z`, class: "br-fill" })
  : k % 4 === 3 ? svg("path", { d: `M${x} ${y - r - 1}L${x + r} ${y + r}H${x - r}Z`, class: "br-fill" }) : svg("circle", { cx: x, cy: y, r, class: "br-fill" }));
function table(caption, head, rows) {
  return tag("div", "br-scroll", { tabindex: "0", role: "region", "aria-label": caption }, tag("table", "br-table", {}, tag("caption", "", {}, caption), tag("thead", "", {}, tag("tr", "", {}, head.map((h) => tag("th", "", { scope: "col" }, h)))),
    tag("tbody", "", {}, rows.map((r) => tag("tr", "", {}, r.map((c, k) => (k ? tag("td", "", {}, c) : tag("th", "", { scope: "row" }, c))))))));
}

function render({ model, el }) {
  const ui = { root: tag("div", "br", { role: "group", "aria-label": "Report card", "data-lm-suppress-shortcuts": "true" }), legend: tag("ul", "br-legend", { "aria-label": "Learners" }),
    list: tag("div", "br-list", { role: "radiogroup", "aria-label": "Tasks" }), detail: tag("section", "br-detail", { "aria-label": "The open task" }), said: tag("div", "br-said", { "aria-live": "polite" }) };
  ui.root.append(ui.legend, tag("div", "br-main", {}, tag("div", "br-left", {}, ui.list), ui.detail), ui.said);
  el.append(tag("style", "", {}, CSS), ui.root);
  ui.detail.textContent = "waiting for the kernel …";
  let report = null, partBy = "noun";
  const place = (name) => report.learners.findIndex((c) => c.name === name);
  const opened = () => report.tasks.find((t) => t.key === model.get("task")) ?? report.tasks[0];
  function set(name, value) { if (model.get(name) === value) return; model.set(name, value); model.save_changes(); }

  // -- the list: every task a row, every learner a mark with its interval --
  function forest(t) {
    const n = report.learners.length, W = 260, left = 6, right = 254, step = 15, H = 8 + step * n, x = (v) => left + (right - left) * v;
    const drawn = [0, 0.25, 0.5, 0.75, 1].map((v) => svg("line", { x1: x(v), x2: x(v), y1: 0, y2: H, class: "br-grid" }));
    drawn.push(svg("line", { x1: x(t.chance), x2: x(t.chance), y1: 0, y2: H, class: "br-guess" }));
    for (const line of t.lines) {
      const k = place(line.learner), y = 4 + step * (k + 0.5);
      if (line.status !== "ok") continue;
      const twin = line.baselines?.untrained;
      if (twin) drawn.push(svg("line", { x1: x(twin.score), x2: x(twin.score), y1: y - 6, y2: y + 6, class: "br-twin", "data-c": k % 4 }));
      drawn.push(svg("g", { "data-c": k % 4 }, svg("line", { x1: x(line.lo), x2: x(line.hi), y1: y, y2: y, class: "br-range" }), dot(k, x(line.score), y, 4.5)));
    }
    return svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "br-forest", "aria-hidden": "true" }, drawn);
  }
  const summary = (t) => t.lines.map((l) => `${l.learner} ${l.status === "ok" ? within(l) : "not asked"}`).join(", ");
  function drawList() {
    const suites = [...new Set(report.tasks.map((t) => t.suite))];
    ui.list.replaceChildren(...suites.flatMap((suite) => [suites.length > 1 ? tag("h3", "br-suite", {}, suite.replaceAll("_", " ")) : null, ...report.tasks.filter((t) => t.suite === suite).map((t) =>
      tag("div", "br-row", { role: "radio", tabindex: "-1", "data-key": t.key, "aria-checked": "false", "aria-label": `${t.title}: ${summary(t)}; guessing ${hundred(t.chance)}` }, tag("span", "br-title", {}, t.title, t.lines.every((l) => l.status !== "ok") ? tag("span", "br-soft", {}, " not asked") : null), forest(t)))]).filter(Boolean));
  }
  function mark() {
    for (const row of ui.list.querySelectorAll(".br-row")) { const on = row.dataset.key === opened().key; row.setAttribute("aria-checked", String(on)); row.tabIndex = on ? 0 : -1; }
  }

  // -- one task --
  const wide = (least, most) => Math.min(most, Math.max(least, ui.detail.clientWidth));
  function curve(t) {
    const names = Object.keys(t.curves).filter((n) => t.curves[n].length);
    if (!report.decades || !names.length) return tag("p", "br-soft", {}, "No learner says how many words it heard, so there is no learning curve.");
    const W = wide(320, 620), H = 290, zero = 52, left = 106, right = W - 124, top = 14, bottom = 238, [lo, hi] = report.decades, x = (w) => logX(w, lo, hi, left, right), y = (v) => bottom - (bottom - top) * v;
    const drawn = [0, 0.25, 0.5, 0.75, 1].flatMap((v) => [svg("line", { x1: zero - 14, x2: right, y1: y(v), y2: y(v), class: "br-grid" }), label(hundred(v), { x: zero - 20, y: y(v) + 5, "text-anchor": "end" })]);
    const every = (right - left) / (hi - lo) < 76 ? 2 : 1;
    for (let k = lo; k <= hi; k += every) drawn.push(label(many(10 ** k), { x: x(10 ** k), y: bottom + 22, "text-anchor": "middle" }));
    drawn.push(label("words heard", { x: (left + right) / 2, y: bottom + 44, "text-anchor": "middle" }), svg("line", { x1: zero - 14, x2: right, y1: y(t.chance), y2: y(t.chance), class: "br-guess" }));
    const ends = [["guessing " + hundred(t.chance), y(t.chance), ""]];
    for (const c of t.children) { drawn.push(svg("line", { x1: zero - 14, x2: right, y1: y(c.score), y2: y(c.score), class: "br-child" })); ends.push([`${c.age_months} months: ${hundred(c.score)}`, y(c.score), ""]); }
    let twins = false;
    names.forEach((name) => {
      const k = place(name), points = t.curves[name], twin = t.lines.find((l) => l.learner === name)?.baselines?.untrained, group = svg("g", { "data-c": k % 4 });
      if (points.length > 1) group.append(svg("path", { d: "M" + points.map((p) => `${x(p.words)} ${y(p.score)}`).join("L"), class: "br-curve" }));
      for (const p of points) group.append(svg("line", { x1: x(p.words), x2: x(p.words), y1: y(p.lo), y2: y(p.hi), class: "br-range" }), dot(k, x(p.words), y(p.score), 4));
      if (twin) { twins = true; group.append(svg("line", { x1: zero, x2: zero, y1: y(twin.lo), y2: y(twin.hi), class: "br-range" }), svg("circle", { cx: zero, cy: y(twin.score), r: 4, class: "br-hollow" })); }
      drawn.push(group); ends.push([`${name.slice(0, 14)} ${hundred(points.at(-1).score)}`, y(points.at(-1).score), String(k % 4)]);
    });
    if (twins) drawn.push(label("0", { x: zero, y: bottom + 22, "text-anchor": "middle" }));
    const heights = spread(ends.map((e) => e[1]), 17);
    ends.forEach(([text, , c], k) => drawn.push(svg("g", c === "" ? {} : { "data-c": c }, label(text, { x: right + 10, y: heights[k] + 5, class: `br-label ${c === "" ? "" : "br-own"}` }))));
    const said = names.map((n) => `${n}: ${t.curves[n].map((p) => `${within(p)} after ${many(p.words)} words`).join(", ")}`).join(". ");
    return svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, class: "br-chart", role: "img", "aria-label": `Correct of 100 against words heard, with 95 % intervals. ${said}. Guessing gives ${hundred(t.chance)}.` }, drawn);
  }
  function comparisons(line) {
    const base = line.baselines ?? {}, of = (vs) => (vs === "chance" ? hundred(opened().chance) : base[vs] ? within(base[vs]) : "–");
    const rows = (line.comparisons ?? []).map((c) => [c.vs === "shortcut" && base.shortcut?.cue ? `shortcut: ${base.shortcut.cue.replaceAll("_", " ")}` : NAMES[c.vs] ?? c.vs, of(c.vs), `${signed(c.delta)} (${signed(c.lo)} to ${signed(c.hi)})`, c.above ? "yes" : "no"]);
    return rows.length ? table(`${line.learner} compared: correct of 100, with 95 % intervals`, ["Compared with", "Correct", "Difference", "Above"], rows) : null;
  }
  function parts(line) {
    const names = Object.keys(line.by ?? {});
    if (!names.length) return null;
    const select = tag("select", "br-select", { "aria-label": "Part by" }, names.map((n) => tag("option", "", { value: n, selected: n === (partBy) }, n.replaceAll("_", " ")))), box = tag("div");
    const draw = () => {
      partBy = select.value;
      const all = Object.entries(line.by[select.value] ?? {}).sort((a, b) => (select.value === "noun" ? b[1].score - a[1].score : 0));
      const step = 22, W = wide(320, 420), left = 124, right = W - 92, x = (v) => left + (right - left) * v, H = step * all.length + 6;
      const drawn = [0, 0.5, 1].map((v) => svg("line", { x1: x(v), x2: x(v), y1: 0, y2: H, class: "br-grid" }));
      drawn.push(svg("line", { x1: x(opened().chance), x2: x(opened().chance), y1: 0, y2: H, class: "br-guess" }));
      all.forEach(([v, s], k) => { const y = 14 + step * k; drawn.push(label(v.slice(0, 16), { x: left - 8, y: y + 5, "text-anchor": "end" }), svg("line", { x1: x(s.lo), x2: x(s.hi), y1: y, y2: y, class: "br-range" }), dot(place(line.learner), x(s.score), y, 4), label(`${hundred(s.score)} (n ${s.n})`, { x: right + 10, y: y + 5 })); });
      box.replaceChildren(svg("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, class: "br-parts", "data-c": place(line.learner) % 4, role: "img", "aria-label": `${line.learner}, correct of 100 by ${select.value}: ${all.map(([v, s]) => `${v} ${within(s)}`).join(", ")}` }, drawn));
    };
    select.addEventListener("change", draw);
    if (!names.includes(partBy)) select.value = names[0];
    draw();
    return tag("div", "", {}, tag("label", "br-field", {}, "Correct of 100 by ", select), box);
  }
  function drawDetail() {
    const t = opened(), line = t.lines.find((l) => l.learner === model.get("learner")) ?? t.lines[0];
    const chips = t.lines.map((l) => tag("button", "br-chip", { type: "button", "data-c": place(l.learner) % 4, "data-name": l.learner, "aria-pressed": String(l === line) }, tag("b", "", {}, l.learner), ` ${l.status === "ok" ? within(l) : "not asked"}`, l.grade && GRADES[l.grade] && l.status === "ok" ? tag("span", "br-grade", {}, ` · ${GRADES[l.grade]}`) : null));
    const ok = line?.status === "ok";
    const norm = t.norm ? tag("div", "br-norm", {}, tag("h4", "", {}, "What children do"), t.norm.statement ? tag("p", "", {}, t.norm.statement) : null, tag("p", "br-soft", {}, [t.norm.source, t.norm.inspired_by].filter(Boolean).join(". "))) : null;
    ui.detail.replaceChildren(tag("h3", "br-head", {}, t.title), tag("div", "br-chips", { role: "group", "aria-label": "Learner" }, chips),
      ...[tag("h4", "", {}, "As it learnt"), curve(t), t.children.length ? tag("p", "br-soft", {}, `Children: ${[...new Set(t.children.map((c) => `${c.statistic}, ${c.source}`))].join("; ")}. They are drawn as levels: how many words they had heard is not known.`) : null, norm,
        tag("h4", "", {}, line ? line.learner : ""), ok ? tag("p", "br-soft", {}, `${line.n.toLocaleString("en")} trials in ${line.groups.toLocaleString("en")} scenes; ties in ${hundred(line.tie_rate ?? 0)} of 100; ${line.errors ?? 0} failed${line.heard_share === null || line.heard_share === undefined ? "" : `; it had heard ${hundred(line.heard_share)} of 100 words of the questions`}.`) : tag("p", "", {}, `Not asked: ${line?.reason || "no reason is given"}.`),
        ok ? comparisons(line) : null, ok ? parts(line) : null].filter(Boolean));
    ui.root.dataset.task = t.key;
  }
  function draw() { if (!report) return; mark(); drawDetail(); }
  function open(key, focus) { set("task", key); draw(); if (focus) ui.list.querySelector(`[aria-checked=true]`)?.focus(); ui.said.textContent = `${opened().title}: ${summary(opened())}`; }

  ui.list.addEventListener("click", (event) => { const row = event.target.closest(".br-row"); if (row) open(row.dataset.key, true); });
  ui.detail.addEventListener("click", (event) => { const chip = event.target.closest(".br-chip"); if (chip) { const name = chip.dataset.name; set("learner", name); draw(); [...ui.detail.querySelectorAll(".br-chip")].find((c) => c.dataset.name === name)?.focus(); } });
  ui.root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
    if (!report || !event.target.closest(".br-row")) return;
    const keys = [...ui.list.querySelectorAll(".br-row")].map((r) => r.dataset.key), k = keys.indexOf(opened().key);
    const to = { ArrowDown: k + 1, ArrowUp: k - 1, ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: keys.length - 1, " ": k, Enter: k }[event.key];
    if (to !== undefined) { event.preventDefault(); open(keys[Math.min(keys.length - 1, Math.max(0, to))], true); }
  });
  let width = 0;
  const resized = new ResizeObserver(() => { if (report && Math.abs(ui.detail.clientWidth - width) > 8) { width = ui.detail.clientWidth; drawDetail(); } });
  resized.observe(ui.root);
  const onMessage = (message) => {
    if (message.type !== "report") return;
    report = message;
    ui.legend.replaceChildren(...report.learners.map((c, k) => tag("li", "", { "data-c": k % 4 }, svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, dot(k, 8, 8, 5)), tag("b", "", {}, c.name), c.words_seen ? ` ${many(c.words_seen)} words heard` : "", c.parameters ? `, ${many(c.parameters)} weights` : "")),
      tag("li", "", {}, svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, svg("line", { x1: 8, x2: 8, y1: 1, y2: 15, class: "br-guess" })), "guessing"), tag("li", "", {}, svg("svg", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, svg("line", { x1: 8, x2: 8, y1: 2, y2: 14, class: "br-twin" })), "untrained twin"));
    drawList(); draw();
    ui.root.dataset.ready = "yes";
  };
  model.on("msg:custom", onMessage);
  model.on("change:task", draw);
  model.on("change:learner", draw);
  model.send({ type: "hello" });
  const patience = setTimeout(() => { if (!report) ui.detail.textContent = "No kernel answers: run this cell again."; }, 8000);
  return () => { clearTimeout(patience); resized.disconnect(); model.off("msg:custom", onMessage); model.off("change:task", draw); model.off("change:learner", draw); };
}

const CSS = `
.br {
  --br-paper: var(--jp-layout-color0, #fff); --br-soft: var(--jp-layout-color2, #eee); --br-line: var(--jp-border-color1, #bdbdbd);
  --br-ink: var(--jp-ui-font-color0, #111); --br-quiet: var(--jp-ui-font-color1, #3c3c3c); --br-focus: var(--jp-brand-color1, #1976d2);
  --c0: #0072b2; --c1: #b84700; --c2: #00694a; --c3: #7a4ea3; --hue: var(--br-ink);
  box-sizing: border-box; max-width: 1180px; padding: 14px; border: 1px solid var(--br-line); border-radius: 8px; background: var(--br-paper); color: var(--br-ink);
  font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); container-type: inline-size;
}
@media (prefers-color-scheme: dark) { .br { --br-paper: var(--jp-layout-color0, #111); --br-soft: var(--jp-layout-color2, #333); --br-line: var(--jp-border-color1, #616161);
  --br-ink: var(--jp-ui-font-color0, #fff); --br-quiet: var(--jp-ui-font-color1, #dedede); --br-focus: var(--jp-brand-color1, #64b5f6); } }
[data-jp-theme-light="false"] .br { --c0: #56b4e9; --c1: #f09050; --c2: #3fd0a0; --c3: #c8a2ee; }
.br *, .br *::before { box-sizing: border-box; }
.br p, .br h3, .br h4, .br ul { margin: 0; padding: 0; }
.br h3 { font-size: 20px; font-weight: 600; color: var(--br-ink); } .br h4 { font-size: 15px; font-weight: 600; margin-top: 6px; color: var(--br-ink); }
.br [data-c="0"] { --hue: var(--c0); } .br [data-c="1"] { --hue: var(--c1); } .br [data-c="2"] { --hue: var(--c2); } .br [data-c="3"] { --hue: var(--c3); }
.br .br-legend { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; padding-bottom: 12px; margin-bottom: 12px; border-bottom: 1px solid var(--br-line); }
.br .br-legend li { display: flex; align-items: center; gap: 6px; margin: 0; font-size: 14px; } .br-legend b { margin-right: 2px; }
.br-main { display: flex; flex-wrap: wrap; gap: 18px 28px; align-items: flex-start; }
.br-left { flex: 1 1 300px; min-width: 0; max-width: 460px; } .br-detail { flex: 1.4 1 420px; min-width: 0; display: grid; gap: 10px; }
.br .br-suite { font-size: 15px; margin: 10px 0 4px; text-transform: capitalize; }
.br-row { display: grid; grid-template-columns: 40% 1fr; gap: 10px; align-items: center; padding: 5px 8px; border-radius: 6px; cursor: pointer; border: 1px solid transparent; }
.br-row:hover { background: var(--br-soft); } .br-row[aria-checked="true"] { border-color: var(--br-ink); background: var(--br-soft); }
.br-row[aria-checked="true"] .br-title { font-weight: 600; } .br-title { overflow-wrap: anywhere; line-height: 1.25; }
.br-forest { width: 100%; height: auto; display: block; overflow: visible; }
.br-chips { display: flex; flex-wrap: wrap; gap: 6px; }
.br-chip { font: inherit; font-size: 14px; padding: 3px 10px; border: 1px solid var(--br-line); border-radius: 999px; background: var(--br-paper); color: var(--br-ink); cursor: pointer; border-left: 10px solid var(--hue); text-align: left; }
.br-chip:hover { background: var(--br-soft); } .br-chip[aria-pressed="true"] { border-color: var(--br-ink); border-left-color: var(--hue); box-shadow: inset 0 0 0 1px var(--br-ink); } .br-grade { color: var(--br-quiet); }
.br-soft { font-size: 14px; color: var(--br-quiet); } .br-norm { display: grid; gap: 2px; }
.br-chart, .br-parts { display: block; max-width: none; } .br-parts { margin-top: 8px; }
.br-label { font: 14px var(--jp-ui-font-family, system-ui, sans-serif); fill: var(--br-ink); paint-order: stroke; stroke: var(--br-paper); stroke-width: 4px; stroke-linejoin: round; }
.br-row .br-label { stroke: none; } .br-own { fill: var(--hue); font-weight: 700; }
.br-grid { stroke: var(--br-line); } .br-guess { stroke: var(--br-quiet); stroke-dasharray: 4 3; stroke-width: 1.6; } .br-child { stroke: var(--br-quiet); stroke-width: 1.4; stroke-dasharray: 1 4; stroke-linecap: round; }
.br-range, .br-curve { stroke: var(--hue); stroke-width: 2.4; fill: none; } .br-fill { fill: var(--hue); } .br-hollow { fill: var(--br-paper); stroke: var(--hue); stroke-width: 2; } .br-twin { stroke: var(--hue); stroke-width: 2; opacity: .8; }
.br-scroll { overflow-x: auto; } .br .br-table { border-collapse: collapse; font-size: 14px; margin: 0; border: 0; }
.br .br-table caption { text-align: left; color: var(--br-quiet); padding-bottom: 4px; caption-side: top; } .br .br-table th, .br .br-table td { text-align: left; padding: 3px 10px 3px 0; border-bottom: 1px solid var(--br-line); font-weight: 400; color: var(--br-ink); background: none; white-space: nowrap; font-variant-numeric: tabular-nums; }
.br .br-table thead th { font-weight: 600; } .br .br-table caption, .br .br-table tbody th { white-space: normal; }
.br-field { font-size: 14px; } .br-select { font: inherit; color: var(--br-ink); background: var(--br-paper); border: 1px solid var(--br-line); border-radius: 6px; padding: 3px 8px; }
.br-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.br button:focus-visible, .br select:focus-visible, .br-row:focus-visible, .br-scroll:focus-visible { outline: 3px solid var(--br-focus); outline-offset: 2px; }
@container (max-width: 620px) { .br-left { max-width: none; } .br-row { grid-template-columns: 36% 1fr; } }
`;

export default { render };
