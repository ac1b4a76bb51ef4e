// The front end of `babyvlm.widgets.review`: one ES module, no build step, nothing from the network.
// Python sends the sorted weights and each word's best once; the page then knows what any threshold keeps without asking.
// Pictures of the pairs at the edge come by custom messages on request. Only `column` and `threshold` are synced.

// ---- pure ----
const FAR = 1e29;                              // weights beyond are decided by hand, or not measured
export const below = (sorted, x) => {          // how many are smaller than x
  let lo = 0, hi = sorted.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (sorted[mid] < x) lo = mid + 1; else hi = mid; }
  return lo;
};
export const finite = (sorted) => sorted.filter((v) => Math.abs(v) < FAR);
export function at(values, share) {            // the threshold under a place of the slider, which stands under the histogram
  const { lo, hi } = bins(values, 1), last = values[values.length - 1];
  return share <= 0 ? values[0] : share >= 1 ? last + 1e-6 * (1 + Math.abs(last)) : lo + share * (hi - lo);
}
export function place(values, x) {             // and back: 0 drops nothing that is measured, 1 drops all of it
  const { lo, hi } = bins(values, 1);
  return x <= values[0] ? 0 : x > values[values.length - 1] ? 1 : Math.min(0.999, Math.max(0.001, (x - lo) / (hi - lo || 1)));
}
export function bins(values, n) {              // {lo, hi, counts}, the outermost hundredth on each side gathered into the last bins
  const lo = values[Math.floor(values.length * 0.01)], hi = values[Math.ceil(values.length * 0.99) - 1], counts = new Array(n).fill(0);
  for (const v of values) counts[Math.min(n - 1, Math.max(0, Math.floor(((v - lo) / (hi - lo || 1)) * n)))]++;
  return { lo, hi, counts };
}
export const short = (v) => (Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en-GB") : Number(v.toPrecision(3)).toString());

function tag(name, className, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const say = (n) => n.toLocaleString("en-GB");

function build() {
  const ui = { root: tag("div", "bv-review", { role: "group", "aria-label": "Curation review", "data-lm-suppress-shortcuts": "true" }) };
  ui.column = tag("select", "bv-column", { "aria-label": "Measurement" });
  ui.level = tag("span", "bv-level");
  ui.counts = tag("p", "bv-counts", { role: "status" }, "waiting for the kernel …");
  ui.chart = tag("div", "bv-chart");
  ui.slider = tag("input", "bv-slider", { type: "range", min: "0", max: "1000", step: "1", value: "0", "aria-label": "Threshold" });
  ui.number = tag("input", "bv-number", { type: "number", step: "any", "aria-label": "Threshold, exactly" });
  ui.words = tag("ul", "bv-lost", { "aria-label": "Words lost" });
  ui.kept = tag("ul", "bv-cards", { "aria-label": "Just kept" });
  ui.dropped = tag("ul", "bv-cards", { "aria-label": "Just dropped" });
  ui.undo = tag("button", "bv-tool", { type: "button" }, tag("kbd", "", {}, "u"), " undo");
  ui.write = tag("button", "bv-tool", { type: "button" }, "Write recipe");
  ui.decided = tag("span", "bv-quiet");
  ui.note = tag("span", "bv-quiet", { role: "status" });
  ui.root.append(
    tag("div", "bv-bar", {}, tag("label", "", {}, "Keep pairs with ", ui.column, " of at least "), ui.number, ui.level),
    ui.chart, ui.slider, ui.counts,
    tag("div", "bv-lostbox", {}, tag("h4", "", {}, "Words lost"), ui.words),
    tag("div", "bv-sides", {}, tag("section", "bv-side", { "data-keep": "no" }, tag("h4", "", {}, "Just dropped"), ui.dropped), tag("section", "bv-side", { "data-keep": "yes" }, tag("h4", "", {}, "Just kept"), ui.kept)),
    tag("div", "bv-bar", {}, ui.undo, ui.write, ui.decided, ui.note, tag("span", "bv-quiet bv-hint", {}, tag("kbd", "", {}, "a"), " accept, ", tag("kbd", "", {}, "x"), " reject the pair in focus; arrows move")));
  return ui;
}

function render({ model, el }) {
  const ui = build();
  el.append(tag("style", "", {}, CSS), ui.root);
  let state = null, values = [], threshold = model.get("threshold"), timer = 0, asked = 0, urls = [];

  // -- what is drawn --
  function drawCounts() {
    const n = state.weight.length, gone = below(state.weight, threshold), lost = state.words.filter(([, best]) => best < threshold);
    const text = `${say(n - gone)} of ${say(n)} pairs kept (${Math.round((100 * (n - gone)) / n)} %), ${say(gone)} dropped, ${say(lost.length)} of ${say(state.words.length)} words lost`;
    ui.counts.textContent = text;
    ui.slider.setAttribute("aria-valuetext", `${short(threshold)}: ${text}`);
    const most = lost.sort((a, b) => b[2] - a[2] || (a[0] < b[0] ? -1 : 1)).slice(0, 60);
    ui.words.replaceChildren(...most.map(([word, , count]) => tag("li", "", {}, word, tag("small", "", {}, ` ${count}`))));
    if (lost.length > most.length) ui.words.append(tag("li", "bv-rest", {}, `and ${say(lost.length - most.length)} more`));
    if (!lost.length) ui.words.append(tag("li", "bv-rest", {}, "none"));
    ui.root.dataset.kept = n - gone; ui.root.dataset.lost = lost.length;
  }
  function drawChart() {
    const { lo, hi, counts } = bins(values, 48), top = Math.max(...counts), x = ((threshold - lo) / (hi - lo || 1)) * 480, here = Math.min(480, Math.max(0, x));
    const bars = counts.map((c, k) => {
      const height = c ? Math.max(1.5, (c / top) * 78) : 0, keep = k * 10 + 5 >= here;
      return `<rect x="${k * 10 + 1}" y="${82 - height}" width="8" height="${height}" class="${keep ? "bv-in" : "bv-out"}"/>`;
    }).join("");
    ui.chart.innerHTML = `<svg viewBox="0 0 480 84" preserveAspectRatio="none" role="img" aria-label="How the pairs are spread over ${state.column}, from ${short(lo)} to ${short(hi)}">${bars}<line x1="${here}" x2="${here}" y1="0" y2="84" vector-effect="non-scaling-stroke"/></svg>
      <span class="bv-lo">${short(lo)}${values[0] < lo ? " or less" : ""}</span><span class="bv-hi">${short(hi)}${values[values.length - 1] > hi ? " or more" : ""}</span>`;
  }
  function draw() {
    drawCounts(); drawChart();
    if (document.activeElement !== ui.number) ui.number.value = Number(threshold.toPrecision(4));
  }
  function askCards() { asked += 1; clearTimeout(timer); timer = setTimeout(() => model.send({ type: "cards", threshold, ask: asked }), 90); }  // answers to earlier questions are dropped
  function slide(to, fromSlider) {
    threshold = to;
    if (!fromSlider) ui.slider.value = Math.round(1000 * place(values, threshold));
    model.set("threshold", threshold);
    draw(); askCards();
  }
  function drawCards(items, buffers) {
    const held = document.activeElement?.closest?.(".bv-card")?.dataset.id;
    urls.forEach((u) => URL.revokeObjectURL(u));
    urls = buffers.map((b) => URL.createObjectURL(new Blob([b], { type: "image/jpeg" })));
    const card = (item, k) => {
      const picture = urls[k] ? [tag("img", "", { src: urls[k], alt: `frame of “${item.text}”${state.blurred ? ", blurred" : ""}` })] : [];
      const act = (keep, key, word) => tag("button", "bv-tool", { type: "button", "data-keep": keep ? "yes" : "no", "aria-label": `${word}: ${item.text}` }, word);
      return tag("li", "bv-card", { "data-id": item.id }, ...picture, tag("p", "", {}, item.text), tag("p", "bv-value", {}, `${state.column} ${Math.abs(item.value) < 1000 ? Number(item.value.toPrecision(4)) : short(item.value)}`),
        item.keep ? act(false, "x", "Reject") : act(true, "a", "Accept"));
    };
    const made = items.map(card);
    ui.kept.replaceChildren(...made.filter((_, k) => items[k].keep));
    ui.dropped.replaceChildren(...made.filter((_, k) => !items[k].keep));
    const empty = (list, text) => { if (!list.children.length) list.append(tag("li", "bv-rest", {}, text)); };
    empty(ui.kept, "none");
    empty(ui.dropped, threshold <= values[0] ? "none yet: slide the threshold to the right" : "none");
    ui.root.dataset.cards = items.length;
    if (held) (made.find((c) => c.dataset.id === held) ?? made[0])?.querySelector("button").focus({ preventScroll: true });
  }
  const decide = (card, keep) => {
    const next = card.nextElementSibling ?? card.previousElementSibling;
    next?.querySelector("button")?.focus();
    model.send({ type: "decide", id: card.dataset.id, keep });
  };

  // -- keys and clicks --
  ui.slider.addEventListener("input", () => slide(at(values, Number(ui.slider.value) / 1000), true));
  ui.slider.addEventListener("change", () => model.save_changes());
  ui.number.addEventListener("change", () => { if (ui.number.value !== "") { slide(Number(ui.number.value)); model.save_changes(); } });
  ui.column.addEventListener("change", () => { model.set("column", ui.column.value); model.save_changes(); });
  ui.undo.addEventListener("click", () => model.send({ type: "undo" }));
  ui.write.addEventListener("click", () => { model.send({ type: "cards", threshold, ask: asked }); model.send({ type: "write" }); });
  ui.root.addEventListener("click", (event) => {
    const b = event.target.closest(".bv-card button");
    if (b) decide(b.closest(".bv-card"), b.dataset.keep === "yes");
  });
  ui.root.addEventListener("keydown", (event) => {
    if (!state || event.ctrlKey || event.metaKey || event.altKey) return;
    const card = event.target.closest(".bv-card"), key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.target !== ui.number) {
      if (key === "u") { model.send({ type: "undo" }); event.preventDefault(); }
      if (card && (key === "a" || key === "x")) { decide(card, key === "a"); event.preventDefault(); }
      const all = [...ui.root.querySelectorAll(".bv-card button")], step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
      if (card && step) { all[all.indexOf(card.querySelector("button")) + step]?.focus(); event.preventDefault(); }
    }
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });

  // -- what Python says --
  const onMessage = (message, buffers) => {
    if (message.type === "cards" && state && message.ask === asked) drawCards(message.items, buffers);
    if (message.type === "written") ui.note.textContent = message.text;
    if (message.type !== "state") return;
    const turned = state?.column !== message.column;
    state = message; values = finite(state.weight);
    ui.column.replaceChildren(...state.columns.map((name) => tag("option", "", name === state.column ? { selected: "" } : {}, name)));
    ui.level.textContent = `${state.level}${state.blurred ? ": blurred" : ""}`;
    ui.decided.textContent = `${say(state.accepted)} accepted, ${say(state.rejected)} rejected by hand`;
    ui.undo.disabled = !state.undo;
    ui.write.hidden = !state.writes;
    threshold = model.get("threshold");
    ui.slider.value = Math.round(1000 * place(values, threshold));
    if (turned && (threshold > values[values.length - 1] || threshold < values[0])) { slide(values[0]); model.save_changes(); }
    draw(); askCards();
    ui.root.dataset.ready = "yes"; ui.root.dataset.column = state.column; ui.root.dataset.decided = state.undo;
  };
  const onThreshold = () => { const to = model.get("threshold"); if (state && Math.abs(to - threshold) > 1e-12 * (1 + Math.abs(to))) { threshold = to; ui.slider.value = Math.round(1000 * place(values, to)); draw(); askCards(); } };
  model.on("msg:custom", onMessage);
  model.on("change:threshold", onThreshold);
  model.send({ type: "hello" });
  return () => { clearTimeout(timer); urls.forEach((u) => URL.revokeObjectURL(u)); model.off("msg:custom", onMessage); model.off("change:threshold", onThreshold); };
}

const CSS = `
.bv-review {
  --bv-paper: var(--jp-layout-color0, #fff); --bv-soft: var(--jp-layout-color2, #eee); --bv-line: var(--jp-border-color1, #bdbdbd);
  --bv-ink: var(--jp-ui-font-color0, #111); --bv-quietly: var(--jp-ui-font-color1, #3c3c3c); --bv-focus: var(--jp-brand-color1, #1976d2); --bv-keep: #0072b2; --bv-drop: #b05a00;
  box-sizing: border-box; max-width: 1180px; padding: 12px; border: 1px solid var(--bv-line); border-radius: 8px;
  background: var(--bv-paper); color: var(--bv-ink); font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); container-type: inline-size;
}
@media (prefers-color-scheme: dark) { .bv-review { --bv-paper: var(--jp-layout-color0, #111); --bv-soft: var(--jp-layout-color2, #333); --bv-line: var(--jp-border-color1, #616161);
  --bv-ink: var(--jp-ui-font-color0, #fff); --bv-quietly: var(--jp-ui-font-color1, #dedede); --bv-focus: var(--jp-brand-color1, #64b5f6); } }
[data-jp-theme-light="false"] .bv-review { --bv-keep: #56b4e9; --bv-drop: #ee8448; }
.bv-review *, .bv-review *::before { box-sizing: border-box; }
.bv-review [hidden] { display: none !important; }
.bv-review .bv-bar { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; }
.bv-review select, .bv-review .bv-number, .bv-review .bv-tool { min-height: 30px; padding: 2px 8px; border: 1px solid var(--bv-line); border-radius: 6px; background: var(--bv-paper); color: var(--bv-ink); font: inherit; font-size: 14px; }
.bv-review .bv-number { width: 110px; }
.bv-review .bv-tool { cursor: pointer; } .bv-review .bv-tool:hover:not(:disabled) { background: var(--bv-soft); } .bv-review .bv-tool:disabled { opacity: .55; cursor: default; }
.bv-review .bv-level { margin-left: auto; font-size: 14px; color: var(--bv-quietly); border: 1px solid var(--bv-line); border-radius: 999px; padding: 0 10px; }
.bv-review .bv-chart { position: relative; margin-top: 10px; padding-bottom: 20px; }
.bv-review .bv-chart svg { display: block; width: 100%; height: 92px; }
.bv-review .bv-in { fill: var(--bv-keep); } .bv-review .bv-out { fill: none; stroke: var(--bv-drop); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.bv-review .bv-chart line { stroke: var(--bv-ink); stroke-width: 2.5; }
.bv-review .bv-lo, .bv-review .bv-hi { position: absolute; bottom: 0; font-size: 13px; color: var(--bv-quietly); } .bv-review .bv-lo { left: 0; } .bv-review .bv-hi { right: 0; }
.bv-review .bv-slider { width: 100%; margin: 2px 0 0; accent-color: var(--bv-focus); height: 26px; }
.bv-review .bv-counts { margin: 4px 0 8px; font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.bv-review h4 { margin: 0 0 4px; font: inherit; font-weight: 600; }
.bv-review .bv-lost { display: flex; flex-wrap: wrap; gap: 4px 6px; list-style: none; margin: 0 0 10px; padding: 0; max-height: 92px; overflow: auto; }
.bv-review .bv-lost li { margin: 0; padding: 0 8px; border: 1px dashed var(--bv-drop); border-radius: 6px; } .bv-review .bv-lost small { font-size: 13px; color: var(--bv-quietly); }
.bv-review .bv-rest { border: none !important; color: var(--bv-quietly); font-style: italic; padding: 0 !important; grid-column: 1 / -1; }
.bv-review .bv-sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin-bottom: 10px; }
.bv-review .bv-side { border-top: 3px solid var(--bv-keep); padding-top: 6px; min-width: 0; } .bv-review .bv-side[data-keep="no"] { border-top: 3px dashed var(--bv-drop); }
.bv-review .bv-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 10px; list-style: none; margin: 0; padding: 0; min-height: 60px; }
.bv-review .bv-card { margin: 0; min-width: 0; display: flex; flex-direction: column; gap: 3px; }
.bv-review .bv-card img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 5px; background: var(--bv-soft); display: block; margin: 0; max-width: none; }
.bv-review .bv-card p { margin: 0; font-size: 14px; line-height: 1.3; overflow-wrap: anywhere; } .bv-review .bv-card .bv-value { font-size: 13px; color: var(--bv-quietly); }
.bv-review .bv-card .bv-tool { margin-top: auto; align-self: flex-start; }
.bv-review .bv-quiet { font-size: 14px; color: var(--bv-quietly); } .bv-review .bv-hint { margin-left: auto; }
.bv-review kbd { font: 13px ui-monospace, monospace; border: 1px solid var(--bv-line); border-radius: 4px; padding: 0 5px; background: var(--bv-paper); color: var(--bv-ink); }
.bv-review :is(button, input, select):focus-visible { outline: 3px solid var(--bv-focus); outline-offset: 2px; }
@container (max-width: 560px) { .bv-review .bv-sides { grid-template-columns: 1fr; } }
`;

export default { render };
