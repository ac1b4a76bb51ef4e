// The front end of `babyvlm.widgets.clip_inspector`: one ES module, no build step, nothing from the network.
// Python holds the recording. This page asks for what it shows by custom messages ("hello" → the time line, "frames" → JPEGs,
// "sound" → WAV or FLAC, "why" → reasons, "label" → labels …), so that nothing of them is kept in a saved notebook. Only the time `t` is synced.

// ---- geometry, pure ----
export const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));
export const timeToX = (t, start, stop, width) => (stop > start ? ((t - start) / (stop - start)) * width : 0);
export const xToTime = (x, start, stop, width) => start + (width > 0 ? clamp(x / width, 0, 1) : 0) * (stop - start);
export function frameAt(t, times) {          // the last frame that has begun by t
  let lo = 0, hi = times.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (times[mid] <= t + 1e-6) lo = mid + 1; else hi = mid; }
  return Math.max(0, lo - 1);
}
export function pageStart(t, start, length, duration) {  // the lane shows [start, start + length]; turn the page when t leaves it
  const last = Math.max(0, duration - length);
  if (t >= start && t <= start + length) return clamp(start, 0, last);
  return clamp(t - length / 10, 0, last);
}
export function clock(t) {
  const tenths = Math.round(t * 10), m = Math.floor(tenths / 600);
  return `${m}:${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}.${tenths % 10}`;
}
export const spoken = (spans, t) => spans.filter((s) => s.onset <= t && t < s.offset);

// ---- a store of frames: asks for what is missing, forgets what is far ----
const KEEP = 240, AHEAD = 12;
function frameStore(model, count, isBare, onFrame, onReply) {
  const have = new Map(), asked = new Map(), boxes = new Map();
  let flying = [], era = 0;                  // when the requests left that are not answered yet; which store a picture was asked for
  const ask = (indices) => {
    const now = performance.now();
    const wanted = indices.filter((i) => i >= 0 && i < count && !have.has(i) && !(now - (asked.get(i) ?? -1e9) < 3000));
    if (!wanted.length) return;
    wanted.forEach((i) => asked.set(i, now));
    flying.push(now);
    model.send({ type: "frames", indices: wanted, bare: isBare() });
  };
  return {
    get: (i) => have.get(i),
    boxes: (i) => boxes.get(i) ?? [],
    size: () => have.size,
    want(i, direction = 1) {
      if (have.has(i)) { const picture = have.get(i); have.delete(i); have.set(i, picture); }  // newest last
      flying = flying.filter((at) => performance.now() - at < 3000);
      if (flying.length > 2) return;         // a fast drag waits for the answers, then asks for where it is by then
      const near = Array.from({ length: AHEAD }, (_, k) => i + direction * k);
      if (!have.has(i)) ask(near.slice(0, have.has(i - direction) ? 4 : 1));  // at a far place this one first, those beside it with the next call
      else if (near.slice(0, AHEAD / 2).some((k) => k >= 0 && k < count && !have.has(k))) ask(near);
    },
    ask,
    async receive(indices, buffers, seen) {
      const mine = era;
      for (let k = 0; k < indices.length; k++) {
        const picture = await createImageBitmap(new Blob([buffers[k]], { type: "image/jpeg" }));
        if (mine !== era) return picture.close();  // cleared meanwhile: another clip, or other places are blurred
        asked.delete(indices[k]);
        have.get(indices[k])?.close();
        have.set(indices[k], picture);
        boxes.set(indices[k], seen?.[k] ?? []);
        while (have.size > KEEP) { const old = have.keys().next().value; have.get(old).close(); have.delete(old); boxes.delete(old); }
        onFrame(indices[k]);
      }
      flying.shift();
      onReply();
    },
    clear() { era += 1; have.forEach((b) => b.close()); have.clear(); asked.clear(); boxes.clear(); flying = []; },
  };
}

// ---- sound: pieces are fetched a little ahead, decoded by the page and started on its own clock ----
const AHEAD_S = 3, PIECES = 16;
function soundPlayer(model, onState) {
  const have = new Map(), asked = new Set(), going = new Map();
  let context = null, pieces = [], on = true;
  const stop = () => { going.forEach((node) => { try { node.stop(); } catch { /* it has ended */ } }); going.clear(); onState("silent"); };
  function start(k, t) {
    const [onset] = pieces[k], late = Math.max(0, t - onset), sound = have.get(k);
    if (late >= sound.duration) return;
    const node = context.createBufferSource();
    node.buffer = sound;
    node.connect(context.destination);
    node.onended = () => { if (going.get(k) === node) going.set(k, null); };
    node.start(context.currentTime + Math.max(0, onset - t), late);
    going.set(k, node);
    onState("sounding");
  }
  return {
    load(list) { stop(); have.clear(); asked.clear(); pieces = list; },
    get on() { return on; },
    toggle() { on = !on; if (!on) stop(); return on; },
    forget() { stop(); have.clear(); asked.clear(); },
    stop,
    tick(t, rate) {
      if (!on || rate !== 1 || !pieces.length) { if (going.size) stop(); return; }
      context ??= new AudioContext();
      if (context.state === "suspended") context.resume();
      const near = pieces.flatMap(([a, b], k) => (b > t && a < t + AHEAD_S ? [k] : []));
      near.forEach((k) => { if (have.has(k) && !going.has(k)) start(k, t); });
      const wanted = near.filter((k) => !have.has(k) && !asked.has(k)).slice(0, 4);
      wanted.forEach((k) => asked.add(k));
      if (wanted.length) model.send({ type: "sound", pieces: wanted });
    },
    async receive(list, buffers) {
      context ??= new AudioContext();
      for (let n = 0; n < list.length; n++) {
        const view = buffers[n], bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
        have.set(list[n], await context.decodeAudioData(bytes));
        asked.delete(list[n]);
        while (have.size > PIECES) have.delete(have.keys().next().value);
      }
    },
    close() { stop(); context?.close(); },
  };
}

// ---- small helpers for the page ----
function tag(name, className, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const icon = (path) => {
  const svg = tag("span");
  svg.innerHTML = `<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="currentColor"><path d="${path}"/></svg>`;
  return svg.firstChild;
};
const ICONS = {
  first: "M3 3h2v10H3zM13 3v10L6 8z", back: "M11 3v10L4 8z", play: "M4 2.5v11L13 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z", next: "M5 3v10l7-5z", last: "M11 3h2v10h-2zM3 3v10l7-5z",
};
const button = (name, label, keys) =>
  tag("button", "bv-button", { type: "button", "aria-label": label, title: `${label} (${keys})`, "data-do": name }, icon(ICONS[name]));

const toggle = (name, label, keys, title) => tag("button", "bv-tool", { type: "button", "data-do": name, "aria-pressed": "false", title: `${title} (${keys})` }, label);

const KEYS = [["space", "play or pause"], ["← →", "one frame"], ["shift ← →", "one utterance"], ["home end", "start, end"],
              ["J K L", "backwards, pause, forwards; again for faster"], ["1 … 9", "label the marked stretch, else what is being said"],
              ["x", "leave that stretch out"], ["u", "undo"], ["[ ]", "mark from here, to here (or shift and drag); escape clears"],
              ["M B W", "sound, boxes, why"], ["R", "hold to look closer, where the level allows it; each look is written down"], ["page↑ page↓", "another recording"]];

function build() {
  const ui = { root: tag("div", "bv-clip", { role: "group", "aria-label": "Clip inspector", "data-lm-suppress-shortcuts": "true" }) };
  ui.boxes = tag("div", "bv-boxes", { "aria-hidden": "true" });
  ui.veil = tag("div", "bv-veil", { hidden: "" });
  ui.picture = tag("canvas", "bv-picture", { role: "img", "aria-label": "no frame yet", width: 4, height: 3 });
  ui.wait = tag("div", "bv-wait", {}, "waiting for the kernel …");
  ui.title = tag("span", "bv-title");
  ui.level = tag("span", "bv-level");
  ui.caption = tag("div", "bv-caption");
  ui.play = button("play", "Play", "space");
  ui.time = tag("output", "bv-time", { "aria-live": "off" });
  ui.controls = tag("div", "bv-controls", { role: "toolbar", "aria-label": "Playback" },
    button("first", "Go to the start", "home"), button("back", "One frame back", "←"), ui.play,
    button("next", "One frame on", "→"), button("last", "Go to the end", "end"), ui.time);
  ui.legend = tag("ul", "bv-legend", { "aria-label": "Who speaks" });
  const keys = tag("dl", "bv-keys", {}, ...KEYS.flatMap(([k, what]) =>
    [tag("dt", "", {}, ...k.split(" ").flatMap((part) => [tag("kbd", "", {}, part), " "])), tag("dd", "", {}, what)]));
  ui.tools = tag("div", "bv-tools", { role: "toolbar", "aria-label": "Show" }, toggle("sound", "Sound", "M", "Play the sound"),
    toggle("boxes", "Boxes", "B", "What is in view, and what is looked at"), toggle("why", "Why?", "W", "Why this is here, or was dropped"), toggle("reveal", "Hold to reveal", "R", "See it sharp while you hold; each look is written down"));
  ui.number = tag("input", "bv-number", { type: "number", min: "1", "aria-label": "Recording number" });
  ui.of = tag("span", "bv-of");
  ui.many = tag("div", "bv-many", { role: "group", "aria-label": "Recordings" }, tag("button", "bv-tool", { type: "button", "data-do": "before", "aria-label": "Previous recording", title: "Previous recording (page up)" }, "‹"),
    ui.number, ui.of, tag("button", "bv-tool", { type: "button", "data-do": "after", "aria-label": "Next recording", title: "Next recording (page down)" }, "›"));
  ui.palette = tag("div", "bv-palette", { role: "toolbar", "aria-label": "Labels" });
  ui.saved = tag("span", "bv-saved");
  ui.why = tag("div", "bv-why", { role: "region", "aria-label": "Why", hidden: "" });
  ui.tracks = tag("div", "bv-tracks bv-scrub");
  ui.line = tag("div", "bv-line");
  ui.mark = tag("div", "bv-mark", { hidden: "" });
  ui.status = tag("div", "bv-status", { role: "status" });
  ui.help = tag("details", "bv-help", {}, tag("summary", "", {}, "Keys"), keys);
  ui.strip = tag("div", "bv-strip", { "aria-hidden": "true" });
  ui.stripHead = tag("div", "bv-striphead");
  ui.bracket = tag("div", "bv-bracket");
  ui.overview = tag("div", "bv-overview bv-scrub", { title: "The whole recording: click or drag" }, ui.strip, ui.bracket, ui.stripHead);
  ui.ticks = tag("div", "bv-ticks", { "aria-hidden": "true" });
  ui.spans = tag("ol", "bv-spans", { "aria-label": "Transcript" });
  ui.head = tag("div", "bv-head", { role: "slider", tabindex: "0", "aria-label": "Playhead", "aria-valuemin": "0" });
  ui.lane = tag("div", "bv-lane bv-scrub", {}, ui.ticks, ui.spans, ui.head);
  ui.said = tag("div", "bv-said", { "aria-live": "polite" });
  ui.root.append(
    tag("div", "bv-top", {}, tag("div", "bv-stage", {}, tag("div", "bv-frame", {}, ui.picture, ui.boxes, ui.veil), ui.wait),
      tag("div", "bv-side", {}, tag("div", "bv-heading", {}, ui.title, ui.level, ui.many),
        ui.caption, ui.controls, ui.tools, ui.legend, ui.help)),
    ui.overview, tag("div", "bv-deck", {}, ui.lane, ui.tracks, ui.mark, ui.line), tag("div", "bv-labels", {}, ui.palette, ui.saved), ui.why, ui.status, ui.said);
  return ui;
}

// ---- the lanes below the words ----
const inSight = (lane, start, end) => (lane.kind === "curve" ? lane.times.filter((x) => x >= start && x <= end).length : lane.spans.filter((s) => s.offset > start && s.onset < end).length);
function summary(lane, start, end) {
  const n = inSight(lane, start, end), where = `${clock(start)} to ${clock(end)}`;
  if (lane.kind === "curve") return `${lane.name}: ${n} values from ${where}, ${lane.lo.toFixed(2)} to ${lane.hi.toFixed(2)} over all${lane.unit ? ` (${lane.unit})` : ""}`;
  const names = lane.spans.filter((s) => s.offset > start && s.onset < end).slice(0, 6).map((s) => s.text || lane.name);
  return `${lane.name}: ${n} from ${where}${names.length ? ": " + names.join(", ") : ""}`;
}
function piece(s, start, end) {
  const left = timeToX(s.onset, start, end, 100), right = timeToX(s.offset, start, end, 100);
  return tag("span", "bv-piece", { style: `left:${left}%;width:max(2px, ${right - left}%)`, title: `${clock(s.onset)} to ${clock(s.offset)}: ${s.text}` }, s.text);
}
function curve(lane, start, end) {
  const spread = lane.hi - lane.lo || 1, seen = [];
  for (let k = 0; k < lane.times.length; k++) if ((lane.times[k + 1] ?? Infinity) >= start && (lane.times[k - 1] ?? -Infinity) <= end) seen.push(k);
  const points = seen.map((k) => `${timeToX(lane.times[k], start, end, 1000).toFixed(1)},${(27 - 24 * ((lane.values[k] - lane.lo) / spread)).toFixed(1)}`).join(" ");
  const holder = tag("span");
  holder.innerHTML = `<svg viewBox="0 0 1000 30" preserveAspectRatio="none" aria-hidden="true"><polyline points="${points}" fill="none" stroke="currentColor" stroke-width="2" vector-effect="non-scaling-stroke"/></svg>`;
  return holder.firstChild;
}

function render({ model, el }) {
  const ui = build();
  el.append(tag("style", "", {}, CSS), ui.root);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let line = null, store = null, t = model.get("t"), start = 0, rate = 0, clockAt = 0, sentAt = 0, timer = 0, saying = "";
  let bare = false, marked = null, boxed = true, asking = false;
  const sound = soundPlayer(model, (state) => { ui.root.dataset.sound = state; });
  const excludedAt = (time) => (line.labels.excluded ?? []).find(([a, b]) => a <= time && time < b);

  // -- what is drawn --
  const length = () => Math.min(line.duration, clamp(ui.lane.clientWidth / 96, 4, 30));  // about 96 px a second, so that words can be read
  function drawFrame() {
    const i = frameAt(t, line.times), picture = store.get(i);
    ui.picture.setAttribute("aria-label", `Frame ${i + 1} of ${line.times.length}, at ${clock(line.times[i] ?? 0)}${line.blurred ? ", blurred" : ""}`);
    if (picture) {
      if (ui.picture.width !== picture.width || ui.picture.height !== picture.height) {
        ui.picture.width = picture.width; ui.picture.height = picture.height;
        ui.picture.style.aspectRatio = `${picture.width} / ${picture.height}`;
      }
      ui.picture.getContext("2d").drawImage(picture, 0, 0);
      ui.picture.dataset.frame = i;
      ui.wait.hidden = true;
    }
    drawBoxes(i, picture);
    store.want(i, rate < 0 ? -1 : 1);
  }
  function drawBoxes(i, picture) {
    const hit = excludedAt(line.times[i] ?? -1) ?? excludedAt(t);
    ui.veil.hidden = !hit;
    if (hit) ui.veil.textContent = `left out: ${hit[2]}`;
    const shown = boxed && picture && !hit ? store.boxes(i) : [];
    ui.boxes.replaceChildren(...shown.map(([a, b, c, d, name, looked]) => tag("div", `bv-box${looked ? " bv-looked" : ""}${b < 0.08 ? " bv-low" : ""}`,
      { style: `left:${100 * a}%;top:${100 * b}%;width:${100 * (c - a)}%;height:${100 * (d - b)}%` }, tag("span", "", {}, name + (looked ? " ◉" : "")))));
  }
  function drawWords() {
    const now = spoken(line.spans, t);
    ui.caption.replaceChildren(...now.slice(0, 3).map((s) => {
      const words = s.words.length ? s.words : [[s.text, Infinity]];
      const current = words.findLastIndex(([, onset]) => onset <= t);
      const look = (k) => (k === current ? "bv-now" : k > current && s.words.length ? "bv-later" : "");
      return tag("div", "", {}, tag("div", "bv-who", {}, tag("span", "bv-swatch", { "data-speaker": s.speaker }),
          line.speakers[s.speaker] + (s.keep ? "" : ` — dropped: ${s.why || "no reason given"}`)),
        tag("p", "bv-words", {}, ...words.flatMap(([word], k) => [tag("span", look(k), {}, word), " "])));
    }));
    if (!now.length) ui.caption.append(tag("p", "bv-silence", {}, "nobody speaks"));
    const text = now.map((s) => `${line.speakers[s.speaker]}: ${s.text}`).join("; ");
    if (text !== saying) { saying = text; ui.said.textContent = text; if (asking) askWhy(); }
    for (const node of ui.spans.children) node.classList.toggle("bv-on", node.span.onset <= t && t < node.span.offset);
  }
  function drawHeads() {
    const end = start + length();
    ui.head.style.left = ui.line.style.left = `${timeToX(t, start, end, 100)}%`;
    ui.stripHead.style.left = `${timeToX(t, 0, line.duration, 100)}%`;
    ui.head.setAttribute("aria-valuenow", t.toFixed(2));
    ui.head.setAttribute("aria-valuetext", `${clock(t)} of ${clock(line.duration)}${saying ? ", " + saying : ""}`);
    const speed = rate && rate !== 1 ? ` ${rate}×` : "";
    ui.time.textContent = `${clock(t)} / ${clock(line.duration)}${speed}`;
  }
  function drawPage() {
    const end = start + length(), whole = length() >= line.duration;
    ui.spans.replaceChildren(...line.spans.filter((s) => s.offset > start && s.onset < end).map((s) => {
      const left = timeToX(s.onset, start, end, 100), right = timeToX(s.offset, start, end, 100);
      const why = s.keep ? "" : ` — dropped: ${s.why || "no reason given"}`;
      const node = tag("li", `bv-span${s.keep ? "" : " bv-dropped"}`, { "data-speaker": s.speaker,
        title: `${clock(s.onset)} ${line.speakers[s.speaker]}: ${s.text}${why}`,
        style: `left:${left}%;width:${right - left}%;top:${s.row * 38}px` }, tag("span", "bv-text", {}, s.text));
      node.span = s;
      return node;
    }));
    ui.lane.style.height = `${24 + line.rows * 38 + 4}px`;
    const step = [0.5, 1, 2, 5, 10, 20, 30, 60].find((s) => length() / s <= ui.lane.clientWidth / 56) ?? 60;
    const ticks = [];
    for (let k = Math.ceil(start / step - 1e-9); k * step <= end + 1e-9; k++)
      ticks.push(tag("span", "", { style: `left:${timeToX(k * step, start, end, 100)}%` }, step < 1 ? clock(k * step) : clock(k * step).slice(0, -2)));
    ui.ticks.replaceChildren(...ticks);
    ui.bracket.hidden = whole;
    ui.bracket.style.left = `${timeToX(start, 0, line.duration, 100)}%`;
    ui.bracket.style.width = `${(length() / line.duration) * 100}%`;
    drawTracks();
  }
  function drawTracks() {
    const end = start + length(), lanes = [...line.lanes, ...(line.labels.lanes ?? [])];
    ui.tracks.hidden = !lanes.length;
    ui.tracks.replaceChildren(...lanes.map((lane) => {
      const node = tag("div", `bv-track bv-a-${lane.kind}`, { "data-tone": lane.tone ?? "", role: "img" }), name = tag("span", "bv-name", {}, lane.name);
      node.setAttribute("aria-label", summary(lane, start, end));
      node.append(...(lane.kind === "curve" ? [curve(lane, start, end)] : lane.spans.filter((s) => s.offset > start && s.onset < end).map((s) => piece(s, start, end))), name);
      return node;
    }));
    drawMark();
  }
  function drawMark() {
    ui.mark.hidden = !marked;
    if (!marked) return;
    const end = start + length(), [a, b] = [Math.min(...marked), Math.max(...marked)];
    const left = clamp(timeToX(a, start, end, 100), 0, 100), right = clamp(timeToX(b, start, end, 100), 0, 100);
    ui.mark.style.left = `${left}%`; ui.mark.style.width = `${right - left}%`;
  }
  function drawStrip() {
    const shape = ui.picture.width / ui.picture.height || 1;
    const count = clamp(Math.round(ui.overview.clientWidth / (52 * shape)), 4, 40);
    const indices = Array.from({ length: count }, (_, k) => frameAt(((k + 0.5) / count) * line.duration, line.times));
    if (ui.strip.children.length !== count) ui.strip.replaceChildren(...indices.map(() => tag("canvas", "", { width: 4, height: 3 })));
    ui.strip.indices = indices;
    store.ask(indices.filter((i, k) => ui.strip.children[k].dataset.frame !== String(i)));
    indices.forEach((i) => drawThumb(i));
  }
  function drawThumb(i) {
    (ui.strip.indices ?? []).forEach((j, k) => {
      const node = ui.strip.children[k], picture = store.get(j);
      if (j !== i || !picture || node.dataset.frame === String(j)) return;
      node.width = picture.width; node.height = picture.height;
      node.getContext("2d").drawImage(picture, 0, 0);
      node.dataset.frame = j;
    });
  }
  function draw() {
    if (!line) return;
    const page = pageStart(t, start, length(), line.duration);
    if (page !== start) { start = page; drawPage(); }
    drawFrame(); drawWords(); drawHeads();
  }

  // -- moving in time --
  function sync(force) {
    const now = performance.now();
    if (!force && now - sentAt < 120) return;
    sentAt = now; model.set("t", Math.round(t * 1000) / 1000); model.save_changes();
  }
  function seek(time, force = true) { sound.stop(); t = clamp(time, 0, line.duration); draw(); sync(force); }
  function step(by) {
    setRate(0);
    const i = clamp(frameAt(t, line.times) + by, 0, line.times.length - 1);
    seek(line.times[i] ?? 0);
  }
  function utterance(by) {
    setRate(0);
    const onsets = line.spans.map((s) => s.onset);
    const to = by > 0 ? onsets.find((o) => o > t + 1e-3) : onsets.findLast((o) => o < t - 1e-3);
    if (to !== undefined) seek(to);
  }
  function setRate(to) {
    if (to && !rate) { clockAt = performance.now(); timer = requestAnimationFrame(run); }
    rate = to;
    if (rate !== 1) sound.stop();
    ui.play.replaceChildren(icon(rate ? ICONS.pause : ICONS.play));
    ui.play.setAttribute("aria-label", rate ? "Pause" : "Play");
    ui.root.dataset.playing = rate ? "yes" : "no";
    if (line) { drawHeads(); sync(true); }
  }
  function run(now) {
    if (!rate) return;
    const next = t + rate * clamp((now - clockAt) / 1000, 0, 0.25);  // the first picture's clock may lie before the key
    clockAt = now;
    if (rate > 0 ? next >= line.duration : next <= 0) { seek(next); return setRate(0); }
    t = next;
    sound.tick(t, rate);
    if (!calm.matches || frameAt(t, line.times) !== Number(ui.picture.dataset.frame)) draw();
    sync(false);
    timer = requestAnimationFrame(run);
  }
  const playOrPause = () => { if (!rate && t >= line.duration - 1e-3) t = 0; setRate(rate ? 0 : 1); };
  const faster = (sign) => setRate(Math.sign(rate) === sign ? sign * Math.min(4, Math.abs(rate) * 2) : sign);
  const actions = { first: () => { setRate(0); seek(0); }, back: () => step(-1), play: playOrPause, next: () => step(1),
                    last: () => { setRate(0); seek(line.duration); } };

  // -- labels, reasons, looks --
  function say(text) { ui.status.textContent = text; }
  function label(key) {
    if (typeof key === "number" && key > line.names.length) return say(`there is no label ${key}`);
    model.send({ type: "label", key, t, marked });
    marked = null;
  }
  const undo = () => model.send({ type: "undo" });
  function mark(which) {
    marked = marked ?? [t, t];
    marked[which] = t;
    drawMark();
    say(`marked from ${clock(Math.min(...marked))} to ${clock(Math.max(...marked))}`);
  }
  function clearMark() { marked = null; drawMark(); }
  const askWhy = () => model.send({ type: "why", t });
  function showWhy(items) {
    ui.why.replaceChildren(...items.map((item) => tag("div", `bv-reason${item.kept ? "" : " bv-gone"}`, {}, tag("p", "bv-verdict", {}, tag("b", "", {}, item.title), ` — ${item.verdict}`),
      tag("dl", "", {}, ...item.lines.flatMap(([what, value]) => [tag("dt", "", {}, what), tag("dd", "", {}, value)])))));
    if (!items.length) ui.why.append(tag("p", "bv-silence", {}, "Nobody speaks here: move to an utterance."));
  }
  const press = (name, on) => ui.tools.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", String(on));
  const tools = {
    sound: () => press("sound", sound.toggle()),
    boxes: () => { boxed = !boxed; press("boxes", boxed); drawFrame(); },
    why: () => { asking = !asking; press("why", asking); ui.why.hidden = !asking; if (asking) askWhy(); },
  };
  function reveal(on) {
    if (!line.blurred || on === bare) return;
    if (on && line.refusal) return say(line.refusal);
    if (!on) { bare = false; press("reveal", false); store.clear(); sound.forget(); drawFrame(); }
    model.send({ type: "reveal", on, t });
  }
  function turn(to) { if (line.clips > 1) { setRate(0); model.send({ type: "clip", to: clamp(to, 0, line.clips - 1) }); } }

  // -- keys, clicks and drags --
  ui.root.addEventListener("keydown", (event) => {
    if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input")) return event.stopPropagation();
    const onButton = event.target.closest("button, summary");
    if (event.key === "Escape" && marked) { clearMark(); event.stopPropagation(); return; }
    if (event.key === "r" || event.key === "R") { if (!event.repeat) reveal(true); event.preventDefault(); return event.stopPropagation(); }
    if (/^[1-9]$/.test(event.key)) { label(Number(event.key)); event.preventDefault(); return event.stopPropagation(); }
    const byKey = { " ": onButton ? null : playOrPause, "[": () => mark(0), "]": () => mark(1), x: () => label("x"), u: undo, m: tools.sound, b: tools.boxes, w: tools.why,
      ",": () => step(-1), ".": () => step(1), PageUp: () => turn(line.clip - 1), PageDown: () => turn(line.clip + 1), ArrowLeft: () => (event.shiftKey ? utterance(-1) : step(-1)),
      ArrowRight: () => (event.shiftKey ? utterance(1) : step(1)), Home: actions.first, End: actions.last,
      j: () => faster(-1), k: () => setRate(0), l: () => faster(1) };
    const action = byKey[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (action) { event.preventDefault(); action(); }
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });
  const look = ui.tools.querySelector("[data-do=reveal]"), hide = () => line && reveal(false);
  ui.root.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "r") hide(); else if (event.target === look) hide(); });
  ui.root.addEventListener("focusout", (event) => { if (!ui.root.contains(event.relatedTarget)) hide(); });
  look.addEventListener("pointerdown", (event) => { look.setPointerCapture(event.pointerId); if (line) reveal(true); });
  look.addEventListener("pointerup", hide);
  look.addEventListener("pointercancel", hide);
  look.addEventListener("keydown", (event) => { if (line && !event.repeat && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); reveal(true); } });
  ui.tools.addEventListener("click", (event) => { const b = event.target.closest("button"); if (b && line && tools[b.dataset.do]) tools[b.dataset.do](); });
  ui.palette.addEventListener("click", (event) => { const b = event.target.closest("button"); if (b && line) (b.dataset.key === "u" ? undo() : label(b.dataset.key === "x" ? "x" : Number(b.dataset.key))); });
  ui.many.addEventListener("click", (event) => { const b = event.target.closest("button"); if (b && line) turn(line.clip + (b.dataset.do === "after" ? 1 : -1)); });
  ui.number.addEventListener("change", () => { if (line) turn(Math.round(Number(ui.number.value) || 1) - 1); });
  ui.controls.addEventListener("click", (event) => { const b = event.target.closest("button"); if (b && line) actions[b.dataset.do](); });
  for (const lane of [ui.lane, ui.tracks, ui.overview]) {
    const toTime = (event) => {
      const box = lane.getBoundingClientRect(), all = lane === ui.overview;
      return xToTime(event.clientX - box.left, all ? 0 : start, all ? line.duration : start + length(), box.width);
    };
    lane.addEventListener("pointerdown", (event) => {
      if (!line || event.button) return;
      event.preventDefault(); lane.setPointerCapture(event.pointerId); setRate(0); ui.head.focus({ preventScroll: true });
      if (event.shiftKey) { marked = [toTime(event), toTime(event)]; lane.marking = true; drawMark(); } else { clearMark(); seek(toTime(event)); }
    });
    lane.addEventListener("pointermove", (event) => {
      if (!line || !lane.hasPointerCapture(event.pointerId)) return;
      if (lane.marking) { marked[1] = toTime(event); drawMark(); } else seek(toTime(event), false);
    });
    lane.addEventListener("pointerup", () => { if (lane.marking && marked && Math.abs(marked[1] - marked[0]) < 0.05) clearMark(); lane.marking = false; if (line) sync(true); });
  }
  ui.picture.addEventListener("click", () => { if (line) { ui.head.focus({ preventScroll: true }); playOrPause(); } });

  // -- what Python says --
  function open(message) {
    line = message; saying = ""; marked = null; bare = false; rate = 0;
    ui.play.replaceChildren(icon(ICONS.play)); ui.play.setAttribute("aria-label", "Play"); ui.root.dataset.playing = "no"; ui.root.dataset.bare = "no";
    store?.clear();
    sound.load(line.sounds);
    store = frameStore(model, line.times.length, () => bare, (i) => { if (i === frameAt(t, line.times)) { drawFrame(); if (!ui.strip.indices) drawStrip(); } drawThumb(i); },
                       () => store.want(frameAt(t, line.times), rate < 0 ? -1 : 1));
    t = clamp(model.get("t"), 0, line.duration);
    ui.strip.replaceChildren(); ui.strip.indices = null;
    delete ui.picture.dataset.frame;
    ui.title.textContent = line.title;
    ui.title.hidden = !line.title;
    ui.level.textContent = line.note;
    ui.level.dataset.blurred = line.blurred ? "yes" : "no";
    const present = Object.keys(line.speakers).filter((s) => line.spans.some((span) => span.speaker === s));
    ui.legend.replaceChildren(...present.map((s) => tag("li", "", {}, tag("span", "bv-swatch", { "data-speaker": s }), line.speakers[s])));
    ui.head.setAttribute("aria-valuemax", line.duration.toFixed(2));
    ui.many.hidden = line.clips < 2;
    ui.number.max = line.clips; ui.number.value = line.clip + 1;
    ui.of.textContent = `of ${line.clips.toLocaleString("en-GB")}`;
    const show = { sound: line.sounds.length > 0, boxes: line.boxed, why: true, reveal: line.blurred };
    for (const b of ui.tools.children) b.hidden = !show[b.dataset.do];
    press("sound", sound.on); press("boxes", boxed); press("reveal", false);
    if (line.refusal) look.title = line.refusal;
    const key = (which, name) => tag("button", "bv-tool", { type: "button", "data-key": which }, tag("kbd", "", {}, which), ` ${name}`);
    ui.palette.replaceChildren(...line.names.map((name, k) => key(String(k + 1), name)), key("x", "leave out"), key("u", "undo"));
    ui.wait.hidden = false;
    ui.wait.textContent = line.times.length ? "" : "no frames";
    ui.root.dataset.ready = "yes"; ui.root.dataset.clip = line.clip;
    start = pageStart(t, 0, length(), line.duration);
    labelled(line.labels);
    drawPage(); draw();
    if (asking) askWhy();
  }
  function labelled(message) {
    const before = JSON.stringify(line.labels.excluded), after = JSON.stringify(message.excluded);
    line.labels = message;
    ui.saved.textContent = `${message.count} label${message.count === 1 ? "" : "s"}, ${message.saved}`;
    ui.root.dataset.labels = message.count;
    if (before !== after) { store.clear(); sound.forget(); drawFrame(); if (asking) askWhy(); }
    drawTracks();
  }
  const onMessage = (message, buffers) => {
    const mine = line && (message.clip === undefined || message.clip === line.clip);
    if (message.type === "timeline" && message.clip !== line?.clip) return open(message);
    if (!mine) return;
    if (message.type === "frames" && message.bare === bare) store.receive(message.indices, buffers, message.boxes).catch(() => { ui.wait.textContent = "a frame could not be read"; });
    if (message.type === "sound") sound.receive(message.pieces, buffers).catch(() => say("the sound could not be read"));
    if (message.type === "labels") labelled(message);
    if (message.type === "why" && asking) showWhy(message.items);
    if (message.type === "reveal") {
      if (message.refusal) say(message.refusal);
      if (message.on) { bare = true; press("reveal", true); store.clear(); sound.forget(); drawFrame(); }
      ui.root.dataset.bare = bare ? "yes" : "no";
    }
  };
  const onTime = () => { const to = model.get("t"); if (line && Math.abs(to - t) > 2e-3 && !rate) { t = clamp(to, 0, line.duration); draw(); } };
  model.on("msg:custom", onMessage);
  model.on("change:t", onTime);
  model.send({ type: "hello" });
  const patience = setTimeout(() => { if (!line) ui.wait.textContent = "No kernel answers: run this cell again."; }, 8000);
  const resized = new ResizeObserver(() => { if (line) { start = pageStart(t, start, length(), line.duration); drawPage(); drawHeads(); drawWords(); if (ui.strip.indices) drawStrip(); } });
  resized.observe(ui.root);
  return () => {
    cancelAnimationFrame(timer); clearTimeout(patience); resized.disconnect();
    model.off("msg:custom", onMessage); model.off("change:t", onTime); store?.clear(); sound.close();
  };
}

const CSS = `
.bv-clip {
  --bv-paper: var(--jp-layout-color0, #fff); --bv-soft: var(--jp-layout-color2, #eee); --bv-line: var(--jp-border-color1, #bdbdbd);
  --bv-ink: var(--jp-ui-font-color0, #111); --bv-quiet: var(--jp-ui-font-color1, #3c3c3c); --bv-focus: var(--jp-brand-color1, #1976d2);
  --FEM: #0072b2; --MAL: #c94f00; --CHI: #a06a00; --OCH: #00805c; --NA: #737373;
  box-sizing: border-box; max-width: 1180px; padding: 12px; border: 1px solid var(--bv-line); border-radius: 8px;
  background: var(--bv-paper); color: var(--bv-ink); font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); container-type: inline-size;
}
@media (prefers-color-scheme: dark) { .bv-clip {
  --bv-paper: var(--jp-layout-color0, #111); --bv-soft: var(--jp-layout-color2, #333); --bv-line: var(--jp-border-color1, #616161);
  --bv-ink: var(--jp-ui-font-color0, #fff); --bv-quiet: var(--jp-ui-font-color1, #dedede); --bv-focus: var(--jp-brand-color1, #64b5f6); } }
[data-jp-theme-light="false"] .bv-clip { --FEM: #56b4e9; --MAL: #ee8448; --CHI: #e8b10c; --OCH: #2fbf95; --NA: #a0a0a0; }
.bv-clip *, .bv-clip *::before { box-sizing: border-box; }
.bv-clip [hidden] { display: none !important; }
.bv-top { display: flex; flex-wrap: wrap; gap: 14px 20px; }
.bv-stage { position: relative; flex: 0 0 auto; width: clamp(190px, 34cqi, 300px); max-width: 100%; min-height: 120px; display: flex; align-items: flex-start; }
.bv-picture { width: 100%; border-radius: 6px; background: var(--bv-soft); cursor: pointer; display: block; }
.bv-wait { position: absolute; inset: 0; display: grid; place-items: center; text-align: center; padding: 12px; color: var(--bv-quiet); }
.bv-side { flex: 1 1 230px; min-width: 0; display: flex; flex-direction: column; gap: 10px; }
.bv-heading { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; }
.bv-title { font-weight: 600; }
.bv-level { font-size: 14px; color: var(--bv-quiet); border: 1px solid var(--bv-line); border-radius: 999px; padding: 0 10px; }
.bv-caption { min-height: 120px; flex: 1 1 auto; }
.bv-who { display: flex; align-items: center; gap: 7px; font-size: 14px; color: var(--bv-quiet); }
.bv-clip .bv-words { margin: 0 0 6px; font-size: 24px; line-height: 1.35; text-wrap: balance; overflow-wrap: anywhere; }
.bv-now { font-weight: 700; text-decoration: underline; text-decoration-thickness: 3px; text-underline-offset: 5px; text-decoration-color: var(--bv-focus); }
.bv-later, .bv-silence { color: var(--bv-quiet); }
.bv-clip .bv-silence { margin: 0; font-size: 16px; font-style: italic; }
.bv-controls { display: flex; flex-wrap: wrap; align-items: center; gap: 4px; }
.bv-button { display: grid; place-items: center; width: 36px; height: 32px; padding: 0; border: 1px solid var(--bv-line); border-radius: 6px; background: var(--bv-paper); color: var(--bv-ink); cursor: pointer; }
.bv-button:hover { background: var(--bv-soft); }
.bv-button[data-do="play"] { width: 48px; }
.bv-time { margin-left: 10px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bv-frame { position: relative; width: 100%; }
.bv-boxes { position: absolute; inset: 0; overflow: hidden; pointer-events: none; border-radius: 6px; }
.bv-box { position: absolute; border: 2px solid #fff; outline: 1px solid #000; border-radius: 2px; }
.bv-box span { position: absolute; left: -2px; bottom: 100%; padding: 0 4px; font-size: 13px; line-height: 17px; white-space: nowrap; background: #000; color: #fff; }
.bv-box.bv-low span { bottom: auto; top: 0; }
.bv-looked { border-style: dashed; border-color: #ffd54a; } .bv-looked span { background: #ffd54a !important; color: #000 !important; font-weight: 700; }
.bv-veil { position: absolute; inset: 0; display: grid; place-items: center; text-align: center; padding: 8px; border-radius: 6px; background: #5c5c5c; color: #fff; pointer-events: none; }
.bv-tools, .bv-palette, .bv-many { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; }
.bv-many { margin-left: auto; }
.bv-tool { min-height: 30px; padding: 2px 10px; border: 1px solid var(--bv-line); border-radius: 6px; background: var(--bv-paper); color: var(--bv-ink); font: inherit; font-size: 14px; cursor: pointer; user-select: none; touch-action: none; }
.bv-tool:hover { background: var(--bv-soft); }
.bv-tool[aria-pressed="true"] { border-color: var(--bv-ink); box-shadow: inset 0 -3px 0 var(--bv-focus); font-weight: 600; }
.bv-number { width: 68px; height: 30px; padding: 0 4px; border: 1px solid var(--bv-line); border-radius: 6px; background: var(--bv-paper); color: var(--bv-ink); font: inherit; font-size: 14px; }
.bv-of { font-size: 14px; color: var(--bv-quiet); }
.bv-deck { position: relative; }
.bv-tracks { margin-top: 4px; display: grid; gap: 3px; }
.bv-track { position: relative; height: 30px; border-radius: 4px; background: color-mix(in srgb, var(--bv-soft) 55%, var(--bv-paper)); overflow: hidden; }
.bv-a-curve { height: 44px; } .bv-track svg { position: absolute; left: 0; top: 14px; width: 100%; height: 29px; color: var(--FEM); }
.bv-name { position: absolute; left: 0; top: 0; padding: 0 6px 0 4px; font-size: 13px; line-height: 15px; border-radius: 4px 0 4px 0; background: var(--bv-paper); color: var(--bv-quiet); pointer-events: none; }
.bv-a-spans { height: 38px; }
.bv-piece { position: absolute; top: 16px; bottom: 1px; padding: 0 4px; font-size: 13px; line-height: 18px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; border: 1px solid var(--bv-quiet); border-radius: 3px; background: var(--bv-paper); color: var(--bv-ink); }
.bv-track[data-tone="mark"] .bv-piece { border: 2px solid var(--OCH); line-height: 16px; }
.bv-track[data-tone="stop"] .bv-piece { border: 1px solid var(--bv-ink); padding-left: 15px; }
.bv-track[data-tone="stop"] .bv-piece::before { content: ""; position: absolute; inset: 0 auto 0 0; width: 11px; background: repeating-linear-gradient(135deg, var(--bv-ink) 0 3px, transparent 3px 7px); }
.bv-line { position: absolute; top: 24px; bottom: 0; width: 1px; margin-left: -.5px; background: var(--bv-ink); pointer-events: none; }
.bv-mark { position: absolute; top: 0; bottom: 0; background: color-mix(in srgb, var(--bv-focus) 22%, transparent); border-inline: 2px solid var(--bv-focus); pointer-events: none; }
.bv-labels { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin-top: 10px; }
.bv-saved, .bv-status { font-size: 14px; color: var(--bv-quiet); }
.bv-status:empty { display: none; }
.bv-why { margin-top: 10px; padding: 8px 12px; border: 1px solid var(--bv-line); border-radius: 6px; }
.bv-clip .bv-verdict { margin: 0 0 4px; } .bv-gone .bv-verdict { text-decoration: underline dashed; text-underline-offset: 4px; }
.bv-clip .bv-reason dl { display: grid; grid-template-columns: max-content 1fr; gap: 1px 12px; margin: 0 0 8px; font-size: 14px; }
.bv-clip .bv-reason dt { color: var(--bv-quiet); font-weight: 400; margin: 0; white-space: nowrap; float: none; width: auto; } .bv-clip .bv-reason dd { margin: 0; }
.bv-clip .bv-legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 0; padding: 0; font-size: 14px; }
.bv-clip .bv-legend li { display: flex; align-items: center; gap: 7px; margin: 0; }
.bv-help { font-size: 14px; } .bv-help summary { cursor: pointer; width: max-content; border-radius: 4px; }
.bv-clip .bv-keys { display: grid; grid-template-columns: max-content 1fr; gap: 3px 12px; margin: 6px 0 0; }
.bv-clip .bv-keys dt, .bv-clip .bv-keys dd { margin: 0; font-weight: 400; }
.bv-clip kbd { font: 13px ui-monospace, monospace; border: 1px solid var(--bv-line); border-radius: 4px; padding: 0 5px; background: var(--bv-paper); color: var(--bv-ink); }
.bv-scrub { position: relative; margin-top: 12px; cursor: ew-resize; touch-action: none; user-select: none; border-radius: 4px; }
.bv-strip { display: flex; height: 52px; overflow: hidden; border-radius: 4px; background: var(--bv-soft); }
.bv-strip canvas { flex: 1 1 0; min-width: 0; height: 100%; object-fit: cover; }
.bv-bracket { position: absolute; top: -3px; bottom: -3px; border: 2px solid var(--bv-ink); border-radius: 5px; box-shadow: 0 0 0 1px var(--bv-paper); pointer-events: none; }
.bv-striphead { position: absolute; top: -4px; bottom: -4px; width: 3px; margin-left: -1.5px; background: var(--bv-ink); box-shadow: 0 0 0 1.5px var(--bv-paper); pointer-events: none; }
.bv-lane { background: linear-gradient(var(--bv-line), var(--bv-line)) 0 23px / 100% 1px no-repeat; }
.bv-ticks { position: absolute; inset: 0; height: 24px; overflow: hidden; font-size: 14px; line-height: 22px; color: var(--bv-quiet); pointer-events: none; font-variant-numeric: tabular-nums; }
.bv-ticks span { position: absolute; padding-left: 5px; border-left: 1px solid var(--bv-line); height: 24px; }
.bv-clip .bv-spans { position: absolute; inset: 27px 0 0; margin: 0; padding: 0; list-style: none; overflow: hidden; }
.bv-clip .bv-span { position: absolute; height: 34px; margin: 0; overflow: hidden; border-radius: 4px; border: 1px solid var(--bv-hue); background: color-mix(in srgb, var(--bv-hue) 14%, var(--bv-paper)); }
.bv-span::before, .bv-swatch { content: ""; background-color: color-mix(in srgb, var(--bv-hue) 30%, var(--bv-paper)); background-image: var(--bv-pattern); background-size: var(--bv-tile, auto); }
.bv-span::before { position: absolute; left: 0; right: 0; bottom: 0; height: 9px; }
.bv-swatch { display: inline-block; width: 26px; height: 14px; border-radius: 3px; border: 1px solid var(--bv-hue); }
.bv-text { position: absolute; inset: 0 4px 9px 5px; font-size: 14px; line-height: 23px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.bv-clip .bv-on { background: color-mix(in srgb, var(--bv-hue) 34%, var(--bv-paper)); box-shadow: inset 0 0 0 1.5px var(--bv-hue); }
.bv-dropped { border-style: dashed !important; background: none !important; } .bv-dropped .bv-text { text-decoration: line-through; }
.bv-head { position: absolute; top: 0; bottom: 0; width: 3px; margin-left: -1.5px; background: var(--bv-ink); box-shadow: 0 0 0 1.5px var(--bv-paper); outline: none; }
.bv-head::before { content: ""; position: absolute; top: 0; left: 50%; width: 15px; height: 15px; transform: translateX(-50%); border-radius: 3px 3px 50% 50%; background: var(--bv-ink); box-shadow: 0 0 0 1.5px var(--bv-paper); }
.bv-lane:has(.bv-head:focus-visible), .bv-clip button:focus-visible, .bv-clip summary:focus-visible, .bv-clip input:focus-visible { outline: 3px solid var(--bv-focus); outline-offset: 2px; }
.bv-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.bv-clip [data-speaker="FEM"] { --bv-hue: var(--FEM); --bv-pattern: linear-gradient(var(--FEM), var(--FEM)); }
.bv-clip [data-speaker="MAL"] { --bv-hue: var(--MAL); --bv-pattern: repeating-linear-gradient(135deg, var(--MAL) 0 3px, transparent 3px 8px); }
.bv-clip [data-speaker="CHI"] { --bv-hue: var(--CHI); --bv-pattern: radial-gradient(circle at 50% 50%, var(--CHI) 0 2.6px, transparent 3px); --bv-tile: 9px 9px; }
.bv-clip [data-speaker="OCH"] { --bv-hue: var(--OCH); --bv-pattern: repeating-linear-gradient(45deg, var(--OCH) 0 2px, transparent 2px 7px), repeating-linear-gradient(135deg, var(--OCH) 0 2px, transparent 2px 7px); }
.bv-clip [data-speaker="NA"]  { --bv-hue: var(--NA); --bv-pattern: repeating-linear-gradient(0deg, var(--NA) 0 2px, transparent 2px 5px); }
@container (max-width: 470px) { .bv-stage { width: 100%; justify-content: center; } .bv-frame { max-width: 232px; } .bv-clip .bv-words { font-size: 20px; } .bv-caption { min-height: 112px; } }
@media (prefers-reduced-motion: no-preference) { .bv-button { transition: background-color .12s; } }
`;

export default { render };
