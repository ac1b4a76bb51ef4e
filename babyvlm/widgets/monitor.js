// The front end of `babyvlm.widgets.monitor`: one ES module, no build step, nothing from the network.
// It asks Python once a second for what is new, and draws the loss beside the chance line. Only `step` is synced.

// ---- pure ----
export function scales(points, chances, total, width, height, left = 44, bottom = 24, top = 8) {
  const losses = points.flatMap((p) => [p[2], p[3]]).sort((a, b) => a - b), known = Object.values(chances).filter((c) => c !== null && c !== undefined);
  const hi = Math.max(losses[Math.floor(losses.length * 0.99)] ?? 1, ...known) * 1.04, lo = Math.min(losses[0] ?? 0, ...known);
  const from = lo - (hi - lo) * 0.06, last = Math.max(total, points.at(-1)?.[0] ?? 1);
  return { x: (step) => left + ((width - left - 28) * step) / last, y: (loss) => top + (height - top - bottom) * (1 - (Math.min(loss, hi) - from) / (hi - from || 1)), lo: from, hi, last };
}
export function ticks(lo, hi, n) {
  const rough = (hi - lo) / n || 1, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const out = [];
  for (let k = Math.ceil(lo / step); k * step <= hi + 1e-12; k++) out.push(Number((k * step).toPrecision(6)));
  return out;
}
export const lasting = (s) => (s === null || s === undefined ? "" : s < 90 ? `${s} s left` : s < 5400 ? `${Math.round(s / 60)} min left` : `${(s / 3600).toFixed(1)} h left`);

function tag(name, className, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const H = 250;
const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v)), say = (n) => n.toLocaleString("en-GB");

function chart(state, W) {
  const { points, chances } = state, s = scales(points, chances, state.total, W, H, 48, 44, 24), bottom = H - 44;
  const at = (k) => points.map((p) => `${s.x(p[0]).toFixed(1)},${s.y(p[k]).toFixed(1)}`);
  const stages = [...new Set(points.map((p) => p[4]))], lines = [];
  for (const y of ticks(s.lo, s.hi, 4)) lines.push(`<line class="bv-grid" x1="48" x2="${W - 28}" y1="${s.y(y)}" y2="${s.y(y)}"/><text x="42" y="${s.y(y) + 5}" text-anchor="end">${y}</text>`);
  for (const x of ticks(0, s.last, Math.max(2, Math.floor(W / 130)))) lines.push(`<text x="${s.x(x)}" y="${bottom + 19}" text-anchor="middle">${say(x)}</text>`);
  lines.push(`<text x="2" y="14">loss</text><text x="${W - 28}" y="${H - 5}" text-anchor="end">steps</text>`);
  stages.forEach((stage, k) => {
    const steps = points.filter((p) => p[4] === stage).map((p) => p[0]), chance = chances[stage], first = k ? steps[0] : 0, end = k === stages.length - 1 ? s.last : steps.at(-1);
    if (chance !== null && chance !== undefined) lines.push(`<line class="bv-chance" x1="${s.x(first)}" x2="${s.x(end)}" y1="${s.y(chance)}" y2="${s.y(chance)}"/>
      <text class="bv-word" x="${s.x(end)}" y="${s.y(chance) - 5}" text-anchor="end">chance ${chance.toFixed(2)}</text>`);
    if (stages.length > 1) lines.push(`<text class="bv-word" x="${s.x(first) + 4}" y="${bottom - 8}">${stage.replace(/[<&>]/g, "")}</text>`);
    if (k) lines.push(`<line class="bv-stage" x1="${s.x(first)}" x2="${s.x(first)}" y1="24" y2="${bottom}"/>`);
  });
  const band = points.length > 1 ? `<polygon class="bv-band" points="${[...at(3), ...at(2).reverse()].join(" ")}"/>` : "";
  const label = `Loss over ${say(state.step)} steps${state.loss === null ? "" : `, now ${state.loss.toFixed(3)}`}`;
  return `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${label}">${lines.join("")}${band}<polyline class="bv-loss" points="${at(1).join(" ")}"/></svg>`;
}

function build() {
  const ui = { root: tag("div", "bv-monitor", { role: "group", "aria-label": "Training monitor", "data-lm-suppress-shortcuts": "true" }) };
  ui.name = tag("span", "bv-title");
  ui.status = tag("span", "bv-pill", { role: "status" }, "waiting for the kernel …");
  ui.flag = tag("p", "bv-flag", { role: "alert", hidden: "" }, "Not learning: the loss is no better than chance.");
  ui.bar = tag("progress", "bv-progress", { "aria-label": "Steps done", max: "1", value: "0" });
  ui.where = tag("span", "bv-quiet");
  ui.chart = tag("div", "bv-chart");
  ui.means = tag("p", "bv-quiet", {}, "The loss says how wrong the learner's guesses are: lower is better. Above or on the dashed line it knows nothing.");
  ui.samples = tag("ol", "bv-samples", { "aria-label": "What the learner says, newest first" });
  ui.stop = tag("button", "bv-tool", { type: "button", title: "Saves a checkpoint and ends (s)" }, tag("kbd", "", {}, "s"), " Stop");
  ui.go = tag("button", "bv-tool", { type: "button", title: "Goes on (c)" }, tag("kbd", "", {}, "c"), " Continue");
  ui.said = tag("span", "bv-quiet", { role: "status" });
  ui.root.append(tag("div", "bv-row", {}, ui.name, ui.status, ui.bar, ui.where), ui.flag, ui.chart, ui.means, ui.samples, tag("div", "bv-row", {}, ui.stop, ui.go, ui.said));
  return ui;
}

function render({ model, el }) {
  const ui = build();
  el.append(tag("style", "", {}, CSS), ui.root);
  let timer = 0, state = null, width = 0;
  const ask = (type) => model.send({ type });
  function draw() {
    ui.name.textContent = state.name;
    ui.status.textContent = state.stopping ? "stopping after this step" : state.status;
    ui.flag.hidden = !state.stuck;
    ui.bar.max = Math.max(1, state.total); ui.bar.value = state.step;
    ui.where.textContent = `${say(state.step)} of ${say(state.total)} steps${state.status === "running" ? ", " + lasting(state.seconds) : ""}${state.loss === null ? "" : `, loss ${state.loss.toFixed(3)}`}`;
    width = ui.chart.clientWidth;
    ui.chart.innerHTML = state.points.length ? chart(state, clamp(width, 260, 1200)) : "";
    ui.means.hidden = !Object.values(state.chances).some((c) => c !== null && c !== undefined);
    if (!state.points.length) ui.chart.append(tag("p", "bv-quiet", {}, "No step has been logged yet."));
    ui.samples.hidden = !state.samples.length;
    ui.samples.replaceChildren(...state.samples.map(([step, what]) => tag("li", "", {}, tag("span", "bv-quiet", {}, `step ${say(step)} `), what)));
    const running = state.status === "running";
    const inside = document.activeElement === ui.stop || document.activeElement === ui.go;
    ui.stop.disabled = !running || state.stopping;
    ui.go.disabled = !(state.stopping || state.status === "stopped");
    if (inside) (ui.stop.disabled ? ui.go : ui.stop).focus({ preventScroll: true });  // a button that cannot be pressed must not keep the focus
    if (state.said) ui.said.textContent = state.said;
    ui.root.dataset.ready = "yes"; ui.root.dataset.step = state.step; ui.root.dataset.status = state.stopping ? "stopping" : state.status;
  }
  const onMessage = (message) => { if (message.type === "state") { state = message; draw(); } };
  ui.stop.addEventListener("click", () => ask("stop"));
  ui.go.addEventListener("click", () => ask("resume"));
  ui.root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "s" && !ui.stop.disabled) ask("stop");
    if (event.key === "c" && !ui.go.disabled) ask("resume");
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });
  model.on("msg:custom", onMessage);
  ask("hello");
  timer = setInterval(() => { if (document.visibilityState === "visible" && state?.status !== "finished") ask("more"); }, 1000);
  const resized = new ResizeObserver(() => { if (state && Math.abs(ui.chart.clientWidth - width) > 8) draw(); });
  resized.observe(ui.root);
  return () => { clearInterval(timer); resized.disconnect(); model.off("msg:custom", onMessage); };
}

const CSS = `
.bv-monitor {
  --bv-paper: var(--jp-layout-color0, #fff); --bv-soft: var(--jp-layout-color2, #eee); --bv-rule: var(--jp-border-color1, #bdbdbd);
  --bv-ink: var(--jp-ui-font-color0, #111); --bv-dim: var(--jp-ui-font-color1, #3c3c3c); --bv-focus: var(--jp-brand-color1, #1976d2); --bv-blue: #0072b2; --bv-warn: #a33b00;
  box-sizing: border-box; max-width: 900px; padding: 12px; border: 1px solid var(--bv-rule); border-radius: 8px;
  background: var(--bv-paper); color: var(--bv-ink); font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif);
}
@media (prefers-color-scheme: dark) { .bv-monitor { --bv-paper: var(--jp-layout-color0, #111); --bv-soft: var(--jp-layout-color2, #333); --bv-rule: var(--jp-border-color1, #616161);
  --bv-ink: var(--jp-ui-font-color0, #fff); --bv-dim: var(--jp-ui-font-color1, #dedede); } }
[data-jp-theme-light="false"] .bv-monitor { --bv-blue: #56b4e9; --bv-warn: #ff9d5c; }
.bv-monitor * { box-sizing: border-box; } .bv-monitor [hidden] { display: none !important; }
.bv-monitor .bv-row { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; }
.bv-monitor .bv-title { font-weight: 600; }
.bv-monitor .bv-pill { font-size: 14px; border: 1px solid var(--bv-rule); border-radius: 999px; padding: 0 10px; color: var(--bv-dim); }
.bv-monitor .bv-progress { flex: 1 1 120px; height: 12px; accent-color: var(--bv-focus); }
.bv-monitor .bv-quiet { font-size: 14px; color: var(--bv-dim); font-variant-numeric: tabular-nums; }
.bv-monitor .bv-flag { margin: 8px 0 0; padding: 6px 10px; border: 2px solid var(--bv-warn); border-radius: 6px; font-weight: 600; }
.bv-monitor .bv-chart { margin: 8px 0 2px; } .bv-monitor svg { display: block; width: 100%; height: auto; }
.bv-monitor p.bv-quiet { margin: 0 0 8px; }
.bv-monitor svg text { font-size: 15px; fill: var(--bv-dim); } .bv-monitor svg .bv-word { fill: var(--bv-ink); }
.bv-monitor .bv-grid { stroke: var(--bv-soft); } .bv-monitor .bv-stage { stroke: var(--bv-rule); stroke-dasharray: 2 4; }
.bv-monitor .bv-chance { stroke: var(--bv-ink); stroke-width: 2; stroke-dasharray: 8 5; }
.bv-monitor .bv-loss { fill: none; stroke: var(--bv-blue); stroke-width: 2.5; } .bv-monitor .bv-band { fill: var(--bv-blue); opacity: .22; }
.bv-monitor .bv-samples { margin: 0 0 8px; padding: 0; list-style: none; max-height: 120px; overflow: auto; } .bv-monitor .bv-samples li { margin: 0; overflow-wrap: anywhere; }
.bv-monitor .bv-tool { min-height: 32px; padding: 2px 12px; border: 1px solid var(--bv-rule); border-radius: 6px; background: var(--bv-paper); color: var(--bv-ink); font: inherit; font-size: 14px; cursor: pointer; }
.bv-monitor .bv-tool:hover:not(:disabled) { background: var(--bv-soft); } .bv-monitor .bv-tool:disabled { opacity: .55; cursor: default; }
.bv-monitor kbd { font: 13px ui-monospace, monospace; border: 1px solid var(--bv-rule); border-radius: 4px; padding: 0 5px; background: var(--bv-paper); color: var(--bv-ink); }
.bv-monitor button:focus-visible { outline: 3px solid var(--bv-focus); outline-offset: 2px; }
`;

export default { render };
