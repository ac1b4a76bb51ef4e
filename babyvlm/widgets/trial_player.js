// The front end of `babyvlm.widgets.trial_player`: one ES module, no build step, nothing from the network.
// Python holds the trials. This page asks by custom messages ("hello" → board and trial, "answer" → what is right),
// so that neither pictures nor words nor keys are kept in a saved notebook; only place, task, learner, order and filters are synced.

// ---- numbers and scales, pure ----
export const hundred = (share) => String(Math.round(100 * share));
export const short = (v) => (v === null || v === undefined ? "–" : Math.abs(v) >= 100 ? v.toFixed(0) : Math.abs(v) >= 10 ? v.toFixed(1) : Math.abs(v) >= 0.1 || v === 0 ? v.toFixed(2) : v.toPrecision(2));
export const minus = (text) => text.replace("-", "−");
export function scale(values, margin = 0.08) {       // where numbers lie from 0 to 1, the lowest and the highest a little inside
  const known = values.filter((v) => v !== null), lo = Math.min(...known), hi = Math.max(...known);
  return (v) => (hi > lo ? margin + (1 - 2 * margin) * (v - lo) / (hi - lo) : 0.5);
}
export const frameOf = (t, fps, count) => Math.min(count - 1, Math.max(0, Math.floor(t * fps + 1e-6)));
export function told(credit) { return credit >= 1 ? "correct" : credit <= 0 ? "wrong" : `${hundred(credit)} of 100 credit`; }
export function ahead(margin) {
  if (margin === null || margin === undefined) return "";
  return Math.abs(margin) < 1e-9 ? "a tie" : `${margin > 0 ? "ahead" : "behind"} by ${short(Math.abs(margin))}`;
}

// ---- small helpers for the page ----
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
  node.append(...children);
  return node;
}
const KEYS = [["1 … 9", "choose"], ["space", "go on, or play again"], ["← →", "previous, next"], ["s", "show the key"], ["r", "see it sharp, where that is allowed; each look is written down"], ["u", "take back the last answer"]];

function build() {
  const ui = { root: tag("div", "bt", { role: "group", "aria-label": "Trial player", "data-lm-suppress-shortcuts": "true" }) };
  const field = (label, name) => { ui[name] = tag("select", "bt-select", { "aria-label": label }); return tag("label", "bt-field", {}, tag("span", "", {}, label), ui[name]); };
  ui.learnerField = field("Learner", "learner"); ui.orderField = field("Order", "order");
  ui.filterBox = tag("div", "bt-filters");
  ui.filterCount = tag("span", "");
  ui.filters = tag("details", "bt-details bt-filterfold", {}, tag("summary", "", {}, "Filters ", ui.filterCount), ui.filterBox);
  ui.bar = tag("div", "bt-bar", {}, field("Task", "task"), ui.learnerField, ui.orderField, ui.filters);
  ui.note = tag("span", "bt-note"); ui.ages = tag("span", "bt-ages"); ui.phases = tag("ol", "bt-phases", { "aria-label": "What happens in this trial" });
  ui.sharp = tag("button", "bt-button bt-small", { type: "button", title: "Each look is written down (r)", hidden: true }, "See it sharp");
  ui.prompt = tag("p", "bt-prompt", { tabindex: "-1" });
  ui.scene = tag("div", "bt-scene"); ui.options = tag("div", "bt-options", { role: "group", "aria-label": "Your choice" });
  ui.verdict = tag("p", "bt-verdict"); ui.reel = tag("div", "bt-reel");
  ui.back = tag("button", "bt-button", { type: "button", "data-do": "back", title: "Previous trial (←)" }, "← Previous");
  ui.again = tag("button", "bt-button", { type: "button", "data-do": "again", title: "Play again, or go on at once (space)" }, "Play again");
  ui.key = tag("button", "bt-button", { type: "button", "data-do": "key", title: "Show the key without answering (s)" }, "Show the key");
  ui.undo = tag("button", "bt-button", { type: "button", "data-do": "undo", title: "Take back the last answer (u)" }, "Take back");
  ui.next = tag("button", "bt-button bt-primary", { type: "button", "data-do": "next", title: "Next trial (→)" }, "Next →");
  ui.place = tag("span", "bt-place");
  ui.nav = tag("div", "bt-nav", { role: "toolbar", "aria-label": "Trials" }, tag("span", "bt-group", {}, ui.back, ui.place, ui.next), tag("span", "bt-group", {}, ui.again, ui.key, ui.undo));
  ui.stage = tag("section", "bt-stage", { "aria-label": "The trial" }, tag("div", "bt-top", {}, ui.phases, ui.ages, ui.note, ui.sharp), ui.prompt, ui.scene, ui.options, ui.verdict, ui.reel);
  ui.learners = tag("div", "bt-learners"); ui.norm = tag("div", "bt-norm"); ui.facts = tag("details", "bt-details", {}, tag("summary", "", {}, "Facts of this trial"));
  ui.score = tag("div", "bt-score");
  const keys = tag("dl", "bt-keys", {}, KEYS.flatMap(([k, what]) => [tag("dt", "", {}, k.split(" ").flatMap((part) => (part === "…" ? ["… "] : [tag("kbd", "", {}, part), " "]))), tag("dd", "", {}, what)]));
  ui.side = tag("section", "bt-side", { "aria-label": "Answers" }, ui.learners, ui.score, tag("details", "bt-details", {}, tag("summary", "", {}, "Keys"), keys));
  ui.said = tag("div", "bt-said", { "aria-live": "polite" });
  ui.root.append(ui.bar, tag("div", "bt-main", {}, tag("div", "bt-left", {}, ui.stage, ui.nav, tag("div", "bt-below", {}, ui.norm, ui.facts)), ui.side), ui.said);
  return ui;
}

function render({ model, el }) {
  const ui = build();
  el.append(tag("style", "", {}, CSS), ui.root);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let board = null, trial = null, media = [], known = null, given = [], at = -1, timer = 0, film = 0, wake = null, run = 0, load = 0, early = null;

  // -- pictures, films and sounds of the trial in view --
  function forget() { cancelAnimationFrame(film); clearTimeout(timer); media.forEach((m) => { m.frames?.forEach((f) => f.close()); if (m.url) URL.revokeObjectURL(m.url); m.player?.pause(); }); media = []; }
  async function decode(descriptions, buffers) {
    let k = 0;
    const found = [];
    for (const { type, count, fps } of descriptions) {
      const pieces = buffers.slice(k, k + count); k += count;
      if (type === "sound") { const url = count ? URL.createObjectURL(new Blob(pieces, { type: "audio/wav" })) : null; found.push({ type, url, player: url ? new Audio(url) : null }); }
      else found.push({ type, fps, frames: await Promise.all(pieces.map((b) => createImageBitmap(new Blob([b])))) });
    }
    return found;
  }
  function canvas(m, frame, label) {
    const picture = m.frames[frame], node = tag("canvas", "bt-picture", { width: picture.width, height: picture.height, role: "img", "aria-label": label });
    node.getContext("2d").drawImage(picture, 0, 0);
    return node;
  }
  function view(index, label, playing = false) {      // a picture, a film on its last frame or running, a sound with a button
    const m = media[index];
    if (m.type === "sound") return tag("button", "bt-button bt-sound", { type: "button", "aria-label": `Play ${label}`, disabled: !m.player }, m.player ? "♪ Play the sound" : "♪ (held back)");
    const node = canvas(m, playing ? 0 : m.frames.length - 1, label);
    node.dataset.media = index;
    return node;
  }
  function roll(node, m) {                            // resolves when the film is over
    return new Promise((done) => {
      const start = performance.now(), context = node.getContext("2d");
      const tick = (now) => {
        const k = frameOf((now - start) / 1000, m.fps, m.frames.length);
        if (node.dataset.frame !== String(k)) { context.drawImage(m.frames[k], 0, 0); node.dataset.frame = k; }
        if ((now - start) / 1000 >= m.frames.length / m.fps) return done();
        film = requestAnimationFrame(tick);
      };
      wake = () => { cancelAnimationFrame(film); context.drawImage(m.frames.at(-1), 0, 0); node.dataset.frame = m.frames.length - 1; done(); };
      film = requestAnimationFrame(tick);
    });
  }
  const pause = (seconds) => new Promise((done) => { clearTimeout(timer); timer = setTimeout(done, 1000 * seconds); wake = () => { clearTimeout(timer); done(); }; });

  // -- the trial, step by step --
  const WHAT = { look: "look", watch: "watch", listen: "listen", wait: "wait", hear: "listen", ask: "choose" };
  function phases(now) {
    const names = [];
    trial.steps.forEach((s, k) => { if (!names.length || names.at(-1).what !== WHAT[s.kind]) names.push({ what: WHAT[s.kind], from: k }); names.at(-1).to = k; });
    const asks = trial.steps.filter((s) => s.kind === "ask"), part = asks.findIndex((s) => trial.steps.indexOf(s) >= now);
    if (asks.length > 1) return ui.phases.replaceChildren(...asks.map((s, k) => tag("li", k === part ? "bt-here" : part < 0 || k < part ? "bt-past" : "", k === part ? { "aria-current": "step" } : {}, k ? String(k + 1) : `${trial.form === "surprise" ? "film" : "question"} 1`)));
    ui.phases.replaceChildren(...(names.length > 1 ? names.slice(-8) : []).map((n) => tag("li", now >= n.from && now <= n.to ? "bt-here" : now > n.to ? "bt-past" : "", now >= n.from && now <= n.to ? { "aria-current": "step" } : {}, n.what)));
  }
  async function go(from = 0) {
    const mine = ++run;
    ui.root.dataset.state = "playing";
    for (let k = from; k < trial.steps.length && mine === run; k++) {
      const step = trial.steps[k];
      phases(k);
      if (step.kind === "ask") { ask(step, k); return; }
      ui.options.replaceChildren(); ui.verdict.textContent = "";
      ui.prompt.textContent = step.kind === "hear" ? step.text : step.kind === "wait" ? "Wait …" : "";
      if (step.kind === "wait") { ui.scene.replaceChildren(tag("div", "bt-curtain", { role: "img", "aria-label": `nothing to see for ${short(step.seconds)} seconds` }, tag("span", "bt-count", { style: `animation-duration:${step.seconds}s` }))); await pause(step.seconds); }
      else if (step.kind === "hear") await pause(step.seconds);
      else if (step.kind === "look") { ui.scene.replaceChildren(...step.media.map((m, i) => view(m, `picture ${i + 1} of what is shown`))); await pause(step.seconds); }
      else if (step.kind === "watch") { const node = view(step.media[0], "a film", true); ui.scene.replaceChildren(node); await roll(node, media[step.media[0]]); }
      else { ui.scene.replaceChildren(view(step.media[0], "the sound")); await sound(media[step.media[0]]); }
    }
  }
  async function sound(m) {
    if (!m.player) return;
    const over = new Promise((done) => { m.player.onended = done; wake = () => { m.player.pause(); done(); }; });
    m.player.currentTime = 0;
    try { await m.player.play(); await over; } catch { /* the browser wants a click first: the button stays */ }
  }
  const promptOf = (step) => (trial.form === "two_by_two" ? `Which picture fits “${step.prompt}”?` : "") || step.prompt || (step.asks === "words" ? "What is true?" : step.asks === "pictures" ? "Which one?" : "What is it?");
  function ask(step, k) {
    wake = null; at = k;
    ui.root.dataset.state = "asking";
    const about = trial.steps.filter((s) => s.kind === "ask");
    if (step.asks === "pictures" && (trial.form === "sequence" || trial.form === "turns")) ui.scene.replaceChildren();
    ui.prompt.textContent = promptOf(step);
    ui.options.dataset.asks = step.asks;
    ui.options.style.setProperty("--bt-many", Math.min(4, step.options.length));
    if (step.asks === "written") {
      const box = tag("input", "bt-text", { type: "text", "aria-label": "Your answer", autocomplete: "off" }), send = tag("button", "bt-button bt-primary", { type: "button" }, "Answer");
      const done = () => { if (box.value.trim()) choose(box.value.trim()); };
      send.addEventListener("click", done);
      box.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); done(); } });
      ui.options.replaceChildren(tag("div", "bt-write", {}, box, send));
    } else ui.options.replaceChildren(...step.options.map((o, i) => option(step, o, i)));
    say(`${ui.prompt.textContent} ${step.options.length ? `${step.options.length} choices.` : ""}`);
    const first = about.indexOf(step) > 0 || ui.root.contains(document.activeElement);
    if (first && document.activeElement !== ui.task) ui.prompt.focus({ preventScroll: true });
  }
  function option(step, o, i) {
    const label = o.text || `${media[o.media[0]]?.type === "clip" ? "film" : media[o.media[0]]?.type === "sound" ? "sound" : "picture"} ${i + 1}`;
    const node = tag("button", "bt-option", { type: "button", "data-k": o.k, "aria-label": `${i + 1}: ${label}` },
      tag("span", "bt-number", { "aria-hidden": "true" }, String(i + 1)), o.media.map((m) => view(m, "")), o.text ? tag("span", "bt-words", {}, o.text) : null, tag("span", "bt-marks"));
    node.querySelectorAll("canvas").forEach((c) => { c.removeAttribute("role"); c.removeAttribute("aria-label"); c.setAttribute("aria-hidden", "true");
      const m = media[Number(c.dataset.media)]; if (m.frames.length > 1 && !calm) roll(c, m); });
    node.addEventListener("click", () => choose(o.k));
    return node;
  }
  function choose(k) {
    if (!trial || ui.root.dataset.state !== "asking" || known) return;
    given.push(k);
    const rest = trial.steps.findIndex((s, i) => i > at && s.kind === "ask");
    if (rest < 0) { ui.root.dataset.state = "sent"; model.send({ type: "answer", unit: trial.unit, given }); ui.options.querySelectorAll(".bt-option").forEach((n) => { n.dataset.mine = n.dataset.k === String(k) ? "yes" : "no"; }); }
    else go(at + 1);
  }

  // -- after the answer --
  const place = (name) => known.learners.findIndex((d) => d.name === name) % 4;
  function reveal() {
    ++run; cancelAnimationFrame(film); clearTimeout(timer); wake = null;
    ui.root.dataset.state = "known";
    const asks = trial.steps.filter((s) => s.kind === "ask");
    phases(trial.steps.length);
    const contextual = trial.steps.filter((s) => ["look", "watch"].includes(s.kind));
    if (asks.length === 1) {
      const step = asks[0], fromSequence = trial.form === "sequence" && contextual.length > 1;
      ui.prompt.textContent = promptOf(step);
      ui.scene.replaceChildren(...(fromSequence ? [] : contextual.flatMap((s) => s.media).map((m) => view(m, "what was shown"))));
      ui.options.dataset.asks = step.asks; ui.options.style.setProperty("--bt-many", Math.min(4, step.options.length));
      ui.options.replaceChildren(...step.options.map((o, i) => marked(step, o, i, 0)));
      ui.reel.replaceChildren(...(fromSequence ? [tag("p", "bt-soft", {}, "What was shown, in order"), strip(contextual.map((s) => s.media[0]))] : []));
    } else if (trial.form === "surprise") { ui.prompt.textContent = "Which of these films cannot be?"; films(asks); }
    else { ui.prompt.textContent = trial.form === "two_by_two" ? "Which picture fits which statement?" : "The whole exchange"; exchange(asks); }
    if (asks.length === 1 && asks[0].asks === "written") ui.reel.append(tag("p", "bt-key", {}, tag("b", "bt-right", {}, "✓ key: "), known.right[0].join(" or "), known.given ? `; you: ${known.given[0]}` : ""));
    ui.verdict.replaceChildren(known.given === null ? "You have not answered this one." : tag("b", known.credit >= 1 ? "bt-right" : "bt-wrong", {}, `${known.credit >= 1 ? "✓" : known.credit > 0 ? "≈" : "✗"} You: ${told(known.credit)}`),
      ` · guessing gives ${hundred(known.chance)} of 100`);
    drawLearners(); drawNorm(); drawFacts(); drawScore(known.tally);
    ui.key.disabled = true;
    say(`${known.given === null ? "" : `You: ${told(known.credit)}. `}${known.learners.map((d) => `${d.name}: ${told(d.credit)}`).join(". ")}`);
    ui.root.dataset.unit = trial.unit;
  }
  function marks(q, k) {
    const own = known.given !== null && known.given[q] === k, right = known.right[q].includes(k);
    return [right ? tag("span", "bt-mark bt-right", {}, "✓ key") : null, own ? tag("span", "bt-mark bt-you", {}, "you") : null,
      ...known.learners.filter((d) => d.chosen[q]?.includes(k)).map((d) => tag("span", "bt-mark", { "data-c": place(d.name) }, d.name))].filter(Boolean);
  }
  function marked(step, o, i, q) {
    const right = known.right[q].includes(o.k);
    return tag("div", "bt-option bt-done", { "data-k": o.k, "data-right": right ? "yes" : "no" }, tag("span", "bt-number", { "aria-hidden": "true" }, String(i + 1)),
      o.media.map((m) => view(m, `${i + 1}${right ? ", the key" : ""}`)), o.text ? tag("span", "bt-words", {}, o.text) : null, tag("span", "bt-marks", {}, marks(q, o.k)));
  }
  const strip = (indices, most = 12) => { const step = Math.ceil(indices.length / most); return tag("div", "bt-strip", {}, indices.filter((m, k) => k % step === 0 || k === indices.length - 1).map((m) => view(m, "shown"))); };
  function films(asks) {
    ui.scene.replaceChildren(); ui.options.replaceChildren(); ui.options.dataset.asks = "films";
    ui.reel.replaceChildren(...asks.map((step, q) => {
      const m = media[trial.steps[trial.steps.indexOf(step) - 1].media[0]], n = m.frames.length, odd = known.films[step.about];
      const pieces = [0, 0.28, 0.55, 0.8, 1].map((share) => canvas(m, Math.min(n - 1, Math.round(share * (n - 1))), `film ${q + 1} at ${Math.round(100 * share)} %`));
      return tag("div", "bt-film", { "data-odd": odd ? "yes" : "no" }, tag("div", "bt-strip", {}, pieces),
        tag("div", "bt-marks", {}, tag("span", `bt-mark ${odd ? "bt-odd" : "bt-right"}`, {}, odd ? "⚡ impossible" : "✓ possible"), known.given ? tag("span", "bt-mark bt-you", {}, `you: ${known.given[q] ? "impossible" : "possible"}`) : null));
    }));
  }
  function exchange(asks) {
    ui.scene.replaceChildren(); ui.options.replaceChildren();
    ui.reel.replaceChildren(...asks.map((step, q) => tag("div", "bt-exchange", {}, tag("p", "bt-ask", {}, step.prompt || "?"),
      step.options.length ? tag("div", "bt-options", { "data-asks": step.asks, style: `--bt-many:${Math.min(4, step.options.length)}` }, step.options.map((o, i) => marked(step, o, i, q))) : tag("p", "bt-soft", {}, `key: ${known.right[q].join(" or ")}${known.given ? `; you: ${known.given[q]}` : ""}`))));
  }
  function drawLearners() {
    const asks = trial.steps.filter((s) => s.kind === "ask");
    const rows = known.learners.map((d) => tag("div", "bt-learner", { "data-c": place(d.name) },
      tag("div", "bt-name", {}, tag("span", "bt-dot", { "aria-hidden": "true" }), tag("b", "", {}, d.name), tag("span", d.credit >= 1 ? "bt-right" : "bt-wrong", {}, `${d.credit >= 1 ? "✓" : d.credit > 0 ? "≈" : "✗"} ${told(d.credit)}`)),
      d.error ? tag("p", "bt-soft", {}, `could not answer: ${d.error}`) : null,
      d.margin !== null && !d.error ? tag("p", "bt-soft", {}, `the key is ${ahead(d.margin)}${d.way ? `, by ${d.way.replace("logprob", "log-probability")}` : ""}`) : null,
      d.reply ? tag("p", "bt-soft", {}, `said: ${d.reply.slice(0, 160)}`) : null,
      d.pair ? lines(["possible", "impossible"], d.pair, (k) => k === 1, place(d.name), "surprise, summed over the films") : null,
      d.scores.map((s, q) => (s.length ? tag("div", "", {}, asks.length > 1 ? tag("p", "bt-soft", {}, asks[q].prompt) : null, lines(asks[q].options.map((o, i) => (o.text && o.text.length < 22 ? o.text : String(i + 1))), asks[q].options.map((o) => s[o.k]), (k) => known.right[q].includes(asks[q].options[k].k), place(d.name), "score")) : null))));
    ui.learners.replaceChildren(tag("h3", "", {}, rows.length ? "What learners did" : "The key"), ...(rows.length ? rows : [tag("p", "bt-soft", {}, board.learners.length ? "No learner was asked this task." : "No report was given, so there are no learners here.")]));
  }
  function lines(labels, values, isRight, colour, what) {   // one line per option: a dot at its score; the key has a ring
    const x = scale(values), W = 250, step = 25, left = Math.min(110, 14 + 7.5 * Math.max(...labels.map((l) => l.length))), right = 60;
    const drawn = values.flatMap((v, k) => {
      const y = 14 + step * k, cx = left + (W - left - right) * (v === null ? 0 : x(v));
      const best = v !== null && v === Math.max(...values.filter((u) => u !== null));
      return [svg("text", { x: 2, y: y + 5, class: `bt-label ${isRight(k) ? "bt-bold" : ""}` }, document.createTextNode(labels[k])), svg("line", { x1: left, x2: W - right, y1: y, y2: y, class: "bt-grid" }),
        ...(v === null ? [] : [svg("line", { x1: left, x2: cx, y1: y, y2: y, class: "bt-stem" }), ...(isRight(k) ? [svg("circle", { cx, cy: y, r: 9, class: "bt-ring" })] : []), svg("circle", { cx, cy: y, r: 5, class: "bt-fill" })]),
        svg("text", { x: W - right + 12, y: y + 5, class: `bt-label ${best ? "bt-bold" : ""}` }, document.createTextNode(minus(short(v))))];
    });
    const said = labels.map((l, k) => `${l}: ${short(values[k])}${isRight(k) ? ", the key" : ""}`).join("; ");
    return svg("svg", { viewBox: `0 0 ${W} ${step * labels.length + 4}`, class: "bt-lines", "data-c": colour, role: "img", "aria-label": `${what}. ${said}` }, ...drawn);
  }
  function drawNorm() {
    const n = known.norm, rows = [];
    if (n?.statement) rows.push(tag("p", "", {}, n.statement), tag("p", "bt-soft", {}, n.source));
    if (n?.inspired_by) rows.push(tag("p", "bt-soft", {}, n.inspired_by));
    known.children.forEach((c) => rows.push(tag("p", "", {}, `Children of ${c.age_months} months: ${hundred(c.score)} of 100 (n = ${c.n}; ${c.source}).`)));
    ui.norm.replaceChildren(...(rows.length ? [tag("h3", "", {}, "What children do"), ...rows] : []));
  }
  function drawFacts() {
    ui.facts.hidden = !known.facts.length;
    ui.facts.replaceChildren(tag("summary", "", {}, "Facts of this trial"), tag("dl", "bt-keys", {}, known.facts.flatMap(([name, value]) => [tag("dt", "", {}, name), tag("dd", "", {}, value)])));
  }
  function drawScore(t) {
    const rows = [];
    if (t.you) rows.push(["you", t.you, `${t.n} taken`, "you"]);
    Object.entries(t.learners).forEach(([name, s], k) => rows.push([name, s, "on the same", k % 4]));
    Object.entries(t.whole).forEach(([name, s], k) => rows.push([name, s, `all ${s.n}`, k % 4]));
    const W = 250, left = 8, right = 242, step = 38, x = (v) => left + (right - left) * v, H = 26 + step * rows.length;
    const upright = (v, y, className) => svg("line", { x1: x(v), x2: x(v), y1: y - 9, y2: y + 9, class: className }), drawn = [];
    drawn.push(svg("text", { x: Math.min(right - 36, Math.max(left + 36, x(t.chance))), y: H - 6, class: "bt-label", "text-anchor": "middle" }, document.createTextNode(`guess ${hundred(t.chance)}`)));
    rows.forEach(([name, s, of, c], k) => {
      const y = 30 + step * k;
      drawn.push(...[0, 0.25, 0.5, 0.75, 1].map((v) => upright(v, y, "bt-grid")), upright(t.chance, y, "bt-guess"), svg("g", { "data-c": c, class: "bt-row" }, svg("text", { x: left, y: y - 12, class: "bt-label" }, document.createTextNode(`${name} · ${of}`)), svg("text", { x: right, y: y - 12, class: "bt-label bt-bold", "text-anchor": "end" }, document.createTextNode(hundred(s.score))),
        svg("line", { x1: x(s.lo), x2: x(s.hi), y1: y, y2: y, class: "bt-range" }), svg("circle", { cx: x(s.score), cy: y, r: 5, class: "bt-fill" })));
    });
    const said = rows.map(([name, s, of]) => `${name} (${of}): ${hundred(s.score)} of 100, ${hundred(s.lo)} to ${hundred(s.hi)}`).join("; ");
    ui.score.replaceChildren(tag("h3", "", {}, "So far in this task"), ...(rows.length ? [svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "bt-lines", role: "img", "aria-label": `Correct of 100, with 95 % intervals. Guessing gives ${hundred(t.chance)}. ${said}` }, ...drawn)] : []),
      tag("p", "bt-soft", {}, t.you ? "Correct of 100, with 95 % intervals. Your answers stay on this machine; your speed is not measured." : "Answer a trial to see yourself beside the learners."));
    ui.undo.disabled = !t.n;
  }

  // -- the bar and the list --
  function fill(select, pairs, value) { select.replaceChildren(...pairs.map(([v, text]) => tag("option", "", { value: v, selected: v === value }, text))); select.value = value; }
  function drawBoard() {
    fill(ui.task, board.tasks.map(([key, title, n]) => [key, `${title} (${n})`]), model.get("task"));
    fill(ui.learner, board.learners.map((n) => [n, n]), model.get("learner"));
    const ORDER = { "as written": "as written", errors: "errors, surest first", closest: "closest calls first" };
    fill(ui.order, board.orders.map((o) => [o, ORDER[o]]), model.get("order"));
    ui.learnerField.hidden = board.learners.length < 2; ui.orderField.hidden = board.orders.length < 2;
    const filters = model.get("filters"), names = Object.keys(board.facets), open = document.activeElement?.dataset?.facet;
    ui.filterBox.replaceChildren(...names.map((name) => {
      const select = tag("select", "bt-select", { "data-facet": name, "aria-label": name });
      fill(select, [["", "all"], ...board.facets[name].map(([v, n]) => [v, `${v} (${n})`])], filters[name] ?? "");
      select.addEventListener("change", () => { const all = { ...model.get("filters") }; if (select.value) all[name] = select.value; else delete all[name]; set("filters", all); });
      return tag("label", "bt-field", {}, tag("span", "", {}, name), select);
    }));
    if (open) [...ui.filterBox.querySelectorAll("select")].find((s) => s.dataset.facet === open)?.focus();
    const on = names.filter((n) => filters[n]).length;
    ui.filterCount.textContent = on ? `(${on} on: ${board.listed} of ${board.total})` : "";
    ui.filters.hidden = !names.length;
    drawPlace(); drawScore(board.tally);
  }
  function drawPlace() {
    if (!board) return;
    const n = board.listed, k = Math.min(model.get("at"), Math.max(0, n - 1));
    ui.place.textContent = n ? `${k + 1} of ${n}` : "none";
    ui.back.disabled = k <= 0; ui.next.disabled = k >= n - 1;
  }
  function set(name, value) { model.set(name, value); model.save_changes(); }
  function move(by) { const to = model.get("at") + by; if (board && to >= 0 && to < board.listed) set("at", to); }
  ui.task.addEventListener("change", () => { model.set("filters", {}); model.set("at", 0); set("task", ui.task.value); });
  ui.learner.addEventListener("change", () => set("learner", ui.learner.value));
  ui.order.addEventListener("change", () => set("order", ui.order.value));
  function say(text) { ui.said.textContent = text; }

  // -- keys and clicks --
  const again = () => { if (!trial) return; if (wake && ui.root.dataset.state === "playing") return wake(); if (known) return replay(); given = []; go(); };
  const replay = () => { known = null; given = []; ui.reel.replaceChildren(); ui.verdict.textContent = ""; go(); };
  const actions = { back: () => move(-1), next: () => move(1), again, key: () => trial && !known && model.send({ type: "key", unit: trial.unit }), undo: () => model.send({ type: "undo" }),
    sharp: () => trial?.blurred && model.send({ type: "reveal", unit: trial.unit }) };
  ui.sharp.addEventListener("click", actions.sharp);
  ui.nav.addEventListener("click", (event) => { const b = event.target.closest("button"); if (b && !b.disabled) actions[b.dataset.do](); });
  ui.scene.addEventListener("click", (event) => { if (event.target.closest(".bt-sound")) { const m = media.find((x) => x.player); m.player.currentTime = 0; m.player.play(); } });
  ui.root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onField = event.target.closest("input, select"), onButton = event.target.closest("button, summary");
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
    if (onField) return;
    const byKey = { ArrowLeft: actions.back, ArrowRight: actions.next, s: actions.key, u: actions.undo, r: actions.sharp, " ": onButton ? null : again };
    const digit = "123456789".indexOf(event.key), step = trial?.steps[at];
    const action = digit >= 0 && step?.kind === "ask" && step.options[digit] && ui.root.dataset.state === "asking" ? () => choose(step.options[digit].k) : byKey[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) { event.preventDefault(); action(); }
  });

  // -- what Python says --
  const onMessage = async (message, buffers) => {
    if (message.type === "board") { board = message; drawBoard(); }
    if (message.type === "refused") { ui.note.textContent = message.why; say(message.why); }
    if (message.type === "nothing") { ++run; forget(); trial = null; ui.root.dataset.state = "nothing"; ui.prompt.textContent = message.why; [ui.scene, ui.options, ui.reel, ui.phases, ui.learners, ui.norm, ui.verdict].forEach((n) => n.replaceChildren()); drawPlace(); say(message.why); }
    if (message.type === "trial") {
      const mine = ++load;
      early = null;
      const found = await decode(message.media, buffers).catch(() => null);
      if (mine !== load) return found?.forEach((m) => m.frames?.forEach((f) => f.close()));
      ++run; forget(); media = found ?? []; trial = message; known = null; given = [];
      ui.note.textContent = message.note; ui.sharp.hidden = !message.blurred; ui.ages.textContent = message.ages;
      ui.learners.replaceChildren(tag("h3", "", {}, "Your turn"), tag("p", "bt-soft", {}, "Choose first. Then you see the key, and what the learners did.")); ui.norm.replaceChildren(); ui.facts.hidden = true;
      ui.reel.replaceChildren(); ui.verdict.textContent = ""; ui.key.disabled = false; ui.root.dataset.unit = "";
      if (!found) { ui.prompt.textContent = "A file of this trial could not be read."; return; }
      ui.root.dataset.ready = "yes";
      drawPlace();
      if (early?.unit === trial.unit) { known = early; reveal(); } else go();
      early = null;
    }
    if (message.type === "revealed") { early = message; if (trial?.unit === message.unit && !known) { known = message; early = null; reveal(); } }
  };
  const onAt = () => drawPlace();
  model.on("msg:custom", onMessage);
  model.on("change:at", onAt);
  model.send({ type: "hello" });
  ui.prompt.textContent = "waiting for the kernel …";
  const patience = setTimeout(() => { if (!board) ui.prompt.textContent = "No kernel answers: run this cell again."; }, 8000);
  return () => { ++run; clearTimeout(patience); forget(); model.off("msg:custom", onMessage); model.off("change:at", onAt); };
}

const CSS = `
.bt {
  --bt-paper: var(--jp-layout-color0, #fff); --bt-soft: var(--jp-layout-color2, #eee); --bt-line: var(--jp-border-color1, #bdbdbd);
  --bt-ink: var(--jp-ui-font-color0, #111); --bt-quiet: var(--jp-ui-font-color1, #3c3c3c); --bt-focus: var(--jp-brand-color1, #1976d2);
  --bt-good: #00694a; --bt-bad: #a83e00; --c0: #0072b2; --c1: #b84700; --c2: #00694a; --c3: #7a4ea3; --cyou: var(--bt-ink);
  box-sizing: border-box; max-width: 1180px; padding: 14px; border: 1px solid var(--bt-line); border-radius: 8px; background: var(--bt-paper); color: var(--bt-ink);
  font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); container-type: inline-size;
}
@media (prefers-color-scheme: dark) { .bt { --bt-paper: var(--jp-layout-color0, #111); --bt-soft: var(--jp-layout-color2, #333); --bt-line: var(--jp-border-color1, #616161);
  --bt-ink: var(--jp-ui-font-color0, #fff); --bt-quiet: var(--jp-ui-font-color1, #dedede); --bt-focus: var(--jp-brand-color1, #64b5f6); } }
[data-jp-theme-light="false"] .bt { --bt-good: #3fd0a0; --bt-bad: #ff9d62; --c0: #56b4e9; --c1: #f09050; --c2: #3fd0a0; --c3: #c8a2ee; }
.bt *, .bt *::before { box-sizing: border-box; }
.bt [hidden] { display: none !important; }
.bt p, .bt h3, .bt dl, .bt dd, .bt ol { margin: 0; padding: 0; }
.bt h3 { font-size: 15px; font-weight: 600; margin: 0 0 6px; color: var(--bt-ink); }
.bt-bar { display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: end; padding-bottom: 12px; border-bottom: 1px solid var(--bt-line); margin-bottom: 14px; }
.bt-field { display: grid; gap: 2px; font-size: 14px; color: var(--bt-quiet); min-width: 0; }
.bt-select { font: inherit; font-size: 15px; color: var(--bt-ink); background: var(--bt-paper); border: 1px solid var(--bt-line); border-radius: 6px; padding: 4px 8px; max-width: 260px; }
.bt-filterfold { flex: 1 1 200px; }
.bt-filterfold[open] { flex-basis: 100%; }
.bt-filters { display: flex; flex-wrap: wrap; gap: 8px 16px; margin-top: 8px; }
.bt-main { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; }
.bt-left { flex: 1 1 440px; min-width: 0; }
.bt-side { flex: 0 1 280px; min-width: 250px; display: grid; gap: 16px; }
.bt-stage { min-height: 372px; display: flex; flex-direction: column; gap: 10px; }
.bt-top { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; min-height: 26px; font-size: 14px; color: var(--bt-quiet); }
.bt .bt-phases { display: flex; flex-wrap: wrap; gap: 4px; list-style: none; margin-right: auto; }
.bt .bt-phases li { padding: 1px 10px; border-radius: 999px; border: 1px solid var(--bt-line); margin: 0; }
.bt .bt-phases .bt-here { background: var(--bt-ink); color: var(--bt-paper); border-color: var(--bt-ink); }
.bt-ages { margin-left: auto; } .bt-phases:not(:empty) ~ .bt-ages { margin-left: 0; }
.bt-note { border: 1px solid var(--bt-line); border-radius: 999px; padding: 0 10px; }
.bt .bt-prompt { font-size: 26px; line-height: 1.3; font-weight: 600; text-wrap: balance; min-height: 34px; outline: none; }
.bt-scene { display: flex; flex-wrap: wrap; gap: 12px; }
.bt-scene:empty, .bt-reel:empty, .bt-options:empty { display: none; }
.bt-scene .bt-picture { width: clamp(180px, 40cqi, 280px); }
.bt-picture { display: block; border-radius: 6px; background: var(--bt-soft); max-width: 100%; height: auto; }
.bt-curtain { width: clamp(180px, 40cqi, 280px); aspect-ratio: 1; border-radius: 6px; background: var(--bt-soft); display: grid; place-items: center; }
.bt-count { width: 60%; height: 8px; border-radius: 4px; background: var(--bt-quiet); transform-origin: left; animation: bt-run linear forwards; }
@keyframes bt-run { from { transform: scaleX(1); } to { transform: scaleX(0); } }
.bt-options { display: grid; grid-template-columns: repeat(var(--bt-many, 2), minmax(0, 236px)); gap: 12px; }
.bt-options:not([data-asks="words"]):has(.bt-option:nth-child(4)) { grid-template-columns: repeat(2, minmax(0, 190px)); }
.bt-options:has(.bt-option:nth-child(5)) { grid-template-columns: repeat(4, minmax(0, 150px)) !important; }
.bt .bt-options[data-asks="words"] { grid-template-columns: minmax(0, 460px) !important; gap: 8px; }
.bt .bt-option { position: relative; display: grid; gap: 6px; align-content: start; padding: 6px; margin: 0; font: inherit; font-size: 17px; text-align: left; color: var(--bt-ink); background: var(--bt-paper); border: 2px solid var(--bt-line); border-radius: 10px; }
.bt button.bt-option { cursor: pointer; }
.bt button.bt-option:hover { border-color: var(--bt-focus); }
.bt-option .bt-picture { width: 100%; }
.bt-number { position: absolute; top: 12px; left: 12px; min-width: 24px; height: 24px; padding: 0 6px; border-radius: 12px; background: var(--bt-paper); color: var(--bt-ink); border: 1px solid var(--bt-line); font-size: 14px; line-height: 22px; text-align: center; font-weight: 600; }
.bt-options[data-asks="words"] .bt-option { padding: 9px 12px 9px 46px; align-content: center; min-height: 44px; }
.bt-options[data-asks="words"] .bt-number { top: 9px; }
.bt-option[data-mine="yes"] { border-color: var(--bt-ink); }
.bt-done { cursor: default; } .bt .bt-done[data-right="yes"] { border-color: var(--bt-good); box-shadow: inset 0 0 0 1px var(--bt-good); }
.bt-marks { display: flex; flex-wrap: wrap; gap: 4px; } .bt-marks:empty { display: none; }
.bt-mark { font-size: 14px; line-height: 20px; padding: 0 8px; border-radius: 999px; border: 1px solid currentColor; color: var(--bt-ink); overflow-wrap: anywhere; }
.bt-mark.bt-you { background: var(--bt-ink); color: var(--bt-paper); border-color: var(--bt-ink); }
.bt-right { color: var(--bt-good) !important; } .bt-wrong { color: var(--bt-bad) !important; } .bt-odd { color: var(--bt-bad); }
.bt [data-c="0"] { --hue: var(--c0); } .bt [data-c="1"] { --hue: var(--c1); } .bt [data-c="2"] { --hue: var(--c2); } .bt [data-c="3"] { --hue: var(--c3); } .bt [data-c="you"] { --hue: var(--cyou); }
.bt-mark[data-c] { color: var(--hue); }
.bt-verdict:empty { display: none; }
.bt-reel { display: grid; gap: 12px; }
.bt-strip { display: flex; gap: 4px; flex-wrap: wrap; } .bt-strip .bt-picture { width: 86px; }
.bt-film { display: flex; flex-wrap: wrap; gap: 6px 12px; align-items: center; } .bt-film .bt-strip { flex-wrap: nowrap; }
.bt-exchange { display: grid; gap: 6px; } .bt-ask { font-size: 17px; font-weight: 600; }
.bt-exchange .bt-options { grid-template-columns: repeat(var(--bt-many, 4), minmax(0, 140px)) !important; }
.bt-write { display: flex; gap: 8px; } .bt-text { font: inherit; font-size: 17px; padding: 6px 10px; border: 1px solid var(--bt-line); border-radius: 6px; background: var(--bt-paper); color: var(--bt-ink); min-width: 0; width: 320px; }
.bt-options:has(.bt-write) { grid-template-columns: 1fr; }
.bt-nav { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-top: 14px; padding-top: 12px; border-top: 1px solid var(--bt-line); }
.bt-group { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; } .bt-group:first-child { margin-right: auto; }
.bt-place { min-width: 76px; text-align: center; font-variant-numeric: tabular-nums; }
.bt-below { display: grid; gap: 14px; margin-top: 16px; }
.bt-button { font: inherit; padding: 5px 12px; border: 1px solid var(--bt-line); border-radius: 6px; background: var(--bt-paper); color: var(--bt-ink); cursor: pointer; }
.bt-button:hover:not(:disabled) { background: var(--bt-soft); } .bt-button:disabled { opacity: .45; cursor: default; }
.bt-small { padding: 1px 10px; font-size: 14px; }
.bt-primary { border-color: var(--bt-ink); font-weight: 600; }
.bt-learner { margin-bottom: 12px; } .bt-name { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: baseline; }
.bt-dot { width: 11px; height: 11px; border-radius: 50%; background: var(--hue); }
.bt-soft { font-size: 14px; color: var(--bt-quiet); }
.bt-lines { display: block; width: 100%; max-width: 300px; height: auto; overflow: visible; }
.bt-label { font: 13px var(--jp-ui-font-family, system-ui, sans-serif); fill: var(--bt-ink); paint-order: stroke; stroke: var(--bt-paper); stroke-width: 4px; stroke-linejoin: round; } .bt-bold { font-weight: 700; }
.bt-grid { stroke: var(--bt-line); } .bt-guess { stroke: var(--bt-quiet); stroke-dasharray: 4 3; stroke-width: 1.5; }
.bt-stem, .bt-range { stroke: var(--hue); stroke-width: 3; } .bt-fill { fill: var(--hue); } .bt-ring { fill: none; stroke: var(--bt-ink); stroke-width: 1.6; }
.bt-details { font-size: 14px; } .bt-details summary { cursor: pointer; width: max-content; max-width: 100%; border-radius: 4px; }
.bt .bt-keys { display: grid; grid-template-columns: max-content 1fr; gap: 3px 12px; margin-top: 6px; } .bt .bt-keys dt { font-weight: 400; color: var(--bt-quiet); overflow-wrap: anywhere; }
.bt kbd { font: 13px ui-monospace, monospace; border: 1px solid var(--bt-line); border-radius: 4px; padding: 0 5px; background: var(--bt-paper); color: var(--bt-ink); }
.bt-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.bt button:focus-visible, .bt select:focus-visible, .bt summary:focus-visible, .bt input:focus-visible { outline: 3px solid var(--bt-focus); outline-offset: 2px; }
@container (max-width: 560px) { .bt-options { grid-template-columns: repeat(min(2, var(--bt-many, 2)), minmax(0, 1fr)); } .bt .bt-prompt { font-size: 22px; } .bt-strip .bt-picture { width: 52px; } }
@media (prefers-reduced-motion: reduce) { .bt-count { animation-timing-function: steps(4); } }
`;

export default { render };
