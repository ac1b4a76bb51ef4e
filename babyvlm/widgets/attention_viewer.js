// The front end of `babyvlm.widgets.attention_viewer`: one ES module, no build step, nothing from the network.
// Python holds captures. This page asks for what it shows by custom messages ("hello" → sizes and names, "picture" → a JPEG and
// the packed maps of each side, "caption" → the texts of an export), so that a saved notebook keeps none of them. Only choices are synced.

// ---- numbers, pure ----
export const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));
export const SIGNED = new Set(["difference", "occlusion"]), SHARES = new Set(["attention", "cross"]);
export function unpack(ranges, data, places) {              // the maps of one side: (layer, head, word) → Float32Array of places
  const low = new Float32Array(ranges), bytes = new Uint8Array(data);
  return (map) => {
    const values = new Float32Array(places), from = map * places, lowest = low[2 * map], step = low[2 * map + 1];
    for (let k = 0; k < places; k++) values[k] = lowest + step * bytes[from + k];
    return values;
  };
}
export function mapOf(side, layer, head, word) {             // head -1: the mean of all heads
  const { heads, words } = side, one = (h) => side.map((layer * heads + h) * words + word);
  if (head >= 0) return one(head);
  const sum = one(0);
  for (let h = 1; h < heads; h++) { const map = one(h); for (let k = 0; k < sum.length; k++) sum[k] += map[k]; }
  return sum.map((v) => v / heads);
}
export function scaleOf(maps, kind) {                        // lowest and highest colour, one for all of these maps
  let low = Infinity, high = -Infinity;
  for (const map of maps) for (const v of map) { if (v < low) low = v; if (v > high) high = v; }
  if (SIGNED.has(kind)) { high = Math.max(-low, high); return [-high, high]; }
  return SHARES.has(kind) ? [Math.min(0, low), high] : [low, high];
}
export const shade = (v, [low, high]) => (high > low ? clamp((v - low) / (high - low), 0, 1) : 0);
export function placeAt(x, y, width, height, rows, columns) {
  return [clamp(Math.floor((y / height) * rows), 0, rows - 1), clamp(Math.floor((x / width) * columns), 0, columns - 1)];
}
export function likeness(one, other) {                       // Pearson's correlation; null where a map is flat
  const mean = (m) => m.reduce((a, b) => a + b, 0) / m.length, [p, q] = [mean(one), mean(other)];
  let pq = 0, pp = 0, qq = 0;
  one.forEach((v, k) => { pq += (v - p) * (other[k] - q); pp += (v - p) ** 2; qq += (other[k] - q) ** 2; });
  return pp * qq > 1e-24 ? pq / Math.sqrt(pp * qq) : null;
}
const RAMPS = {  // every tenth of matplotlib's inferno and PuOr, which are in the public domain
  heat: ["000004", "160b39", "420a68", "6a176e", "932667", "bc3754", "dd513a", "f37819", "fca50a", "f6d746", "fcffa4"],
  signed: ["2d004b", "532687", "8073ac", "b1aad1", "d8daeb", "f7f7f6", "fee0b6", "fcb761", "e08214", "b25706", "7f3b08"],
};
const TABLE = Object.fromEntries(Object.entries(RAMPS).map(([name, stops]) => {
  const rgb = stops.map((s) => [0, 2, 4].map((k) => parseInt(s.slice(k, k + 2), 16)));
  return [name, Array.from({ length: 256 }, (_, i) => { const x = i / 25.5, k = Math.min(9, Math.floor(x)); return rgb[k].map((c, j) => Math.round(c + (rgb[k + 1][j] - c) * (x - k))); })];
}));
export const colour = (share, signed) => TABLE[signed ? "signed" : "heat"][Math.round(clamp(share, 0, 1) * 255)];
export const strength = (share, signed) => 0.1 + 0.75 * (signed ? Math.abs(2 * share - 1) : share);
const INKS = Object.fromEntries([false, true].flatMap((signed) => [false, true].map((soft) => [`${signed} ${soft}`,   // 256 colours as the canvas keeps them
  new Uint32Array(new Uint8ClampedArray(Array.from({ length: 256 }, (_, i) => [...colour(i / 255, signed), soft ? 255 * strength(i / 255, signed) : 255]).flat()).buffer)])));
export const short = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e4 ? String(Number(v.toPrecision(2))) : v.toExponential(1)).replace("-", "−").replace("e−", "e-");
const percent = (v) => (v >= 0.0995 ? `${Math.round(100 * v)} %` : `${Number((100 * v).toPrecision(2))} %`);

// ---- a PNG that carries words ----
const CRC = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n >>> 0; });
export function withTexts(png, texts) {                      // iTXt chunks behind the header chunk, which ends at byte 33
  const utf8 = (s) => new TextEncoder().encode(s), chunks = Object.entries(texts).map(([key, text]) => {
    const body = new Uint8Array([...utf8("iTXt" + key), 0, 0, 0, 0, 0, ...utf8(text)]), chunk = new Uint8Array(body.length + 8), view = new DataView(chunk.buffer);
    view.setUint32(0, body.length - 4);
    chunk.set(body, 4);
    view.setUint32(body.length + 4, ~body.reduce((c, b) => CRC[(c ^ b) & 255] ^ (c >>> 8), 0xffffffff) >>> 0);
    return chunk;
  });
  return new Blob([png.slice(0, 33), ...chunks, png.slice(33)], { type: "image/png" });
}

// ---- small helpers for the page ----
function tag(name, className, attributes = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
const xml = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const clock = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(1).padStart(4, "0")}`;
const plain = (word) => !/^[<[].*[>\]]$/.test(word);
function lines(text, most) {                                 // broken at spaces
  return text.split(" ").reduce((all, word) => { const last = all.at(-1); if (last && (last + " " + word).length <= most) all[all.length - 1] += " " + word; else all.push(word); return all; }, []);
}
function paint(canvas, rows, columns, values, [low, high], signed, soft = false) {
  if (canvas.width !== columns || canvas.height !== rows) { canvas.width = columns; canvas.height = rows; }
  const image = new ImageData(columns, rows), pixels = new Uint32Array(image.data.buffer), inks = INKS[`${signed} ${soft}`], by = high > low ? 255 / (high - low) : 0;
  for (let k = 0; k < pixels.length; k++) pixels[k] = inks[clamp(Math.round((values[k] - low) * by), 0, 255)];
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
}

const KEYS = [["← →", "the word before, the next word"], ["← ↑ → ↓", "in the heads: another head or layer; in a picture: another place"], ["esc", "choose no place"],
              [", .", "the picture before, the next picture"], ["M", "the mean of all heads"], ["P", "the picture by itself"], ["S", "what shares a scale of colours"]];
const SCALES = { head: "a scale for each head", all: "one scale for all heads", own: "a scale for each map" }, ALONE = { head: "one scale for both", own: "a scale for each" };  // one map a side
const KEEP = 32e6;                                           // bytes of maps that the page remembers, of at least three pictures

function build() {
  const ui = { root: tag("div", "bva", { role: "group", "aria-label": "Attention viewer", "data-lm-suppress-shortcuts": "true" }) };
  const button = (name, label, text) => tag("button", "bva-button", { type: "button", "data-do": name, title: label, "aria-label": label }, text);
  ui.title = tag("span", "bva-title");
  ui.level = tag("span", "bva-level");
  ui.says = tag("div", "bva-says");
  ui.words = tag("div", "bva-words", { role: "radiogroup", "aria-label": "Words" });
  ui.wait = tag("div", "bva-wait", {}, "waiting for the kernel …");
  ui.sides = tag("div", "bva-sides");
  ui.read = tag("div", "bva-read");
  ui.slider = tag("input", "bva-slider", { type: "range", min: "0", step: "1", "aria-label": "Picture" });
  ui.at = tag("output", "bva-at", { "aria-live": "off" });
  ui.frames = tag("div", "bva-frames", { role: "group", "aria-label": "Pictures" }, button("back", "The picture before ( , )", "◀"), ui.slider, button("next", "The next picture ( . )", "▶"), ui.at);
  ui.scale = tag("select", "bva-button", { "aria-label": "What shares a scale of colours", title: "What shares a scale of colours (S)" }, ...Object.entries(SCALES).map(([value, text]) => tag("option", "", { value }, text)));
  ui.bare = tag("button", "bva-button", { type: "button", "data-do": "bare", "aria-pressed": "false", title: "The picture without heat (P)" }, "picture alone");
  ui.tools = tag("div", "bva-tools", { role: "toolbar", "aria-label": "View and export" }, ui.scale, ui.bare, button("svg", "Save what is in view as SVG", "SVG"), button("png", "Save what is in view as PNG", "PNG"));
  ui.help = tag("details", "bva-help", {}, tag("summary", "", {}, "Keys"), tag("dl", "bva-keys", {}, ...KEYS.flatMap(([k, what]) =>
    [tag("dt", "", {}, ...k.split(" ").flatMap((part) => [tag("kbd", "", {}, part), " "])), tag("dd", "", {}, what)])));
  ui.said = tag("div", "bva-said", { "aria-live": "polite" });
  ui.body = tag("div", "bva-body", { hidden: "" }, ui.words, ui.frames, ui.sides, ui.read, tag("div", "bva-foot", {}, ui.tools, ui.help));
  ui.root.append(tag("div", "bva-heading", {}, ui.title, ui.level, ui.says), ui.wait, ui.body, ui.said);
  return ui;
}

function buildSide(info, k) {
  const side = { picture: tag("canvas", "bva-picture", { "aria-hidden": "true", width: 192, height: 192 }), heat: tag("canvas", "bva-heat", { "aria-hidden": "true" }), place: tag("div", "bva-place", { hidden: "" }),
                 name: tag("div", "bva-name", {}, info.names[k] || "this learner"), facts: tag("div", "bva-facts"), bar: tag("canvas", "bva-bar", { "aria-hidden": "true", width: 128, height: 1 }),
                 low: tag("span", ""), high: tag("span", ""), thumbs: [] };
  const label = `Picture${info.names[k] ? " of " + info.names[k] : ""}; the arrow keys choose a place`;
  side.stage = tag("div", "bva-stage", { tabindex: "0", role: "group", "aria-label": label }, side.picture, side.heat, side.place);
  side.scale = tag("div", "bva-scale", {}, side.low, side.bar, side.high);
  side.key = tag("span", `bva-swatch bva-side${k}`, { "aria-hidden": "true" });
  side.name.prepend(side.key);
  side.node = tag("section", "bva-side", { "aria-label": info.names[k] || "this learner" },
    tag("div", "bva-zoom", {}, side.stage, tag("div", "bva-info", {}, side.name, side.scale, side.facts)));
  if (info.layers * info.heads > 1) side.node.append(headsOf(info, side, k));
  return side;
}
function headsOf(info, side, k) {
  const rows = info.heads > 1 ? [-1, ...Array(info.heads).keys()] : [0];
  side.grid = tag("div", "bva-heads", { role: "radiogroup", "aria-label": `Layers and heads${info.names[k] ? ", " + info.names[k] : ""}` });
  side.grid.style.gridTemplateColumns = `max-content repeat(${info.layers}, minmax(0, 66px))`;
  const label = (text, className = "") => tag("span", `bva-label ${className}`, { "aria-hidden": "true" }, text);
  const corner = label("layer");
  if (info.names.length > 1) corner.prepend(tag("span", `bva-swatch bva-side${k}`));
  side.grid.append(corner, ...Array.from({ length: info.layers }, (_, l) => label(String(l + 1), "bva-top")));
  for (const h of rows) {
    side.grid.append(label(h < 0 ? "mean" : info.heads > 1 ? `head ${h + 1}` : ""));
    for (let l = 0; l < info.layers; l++) {
      const canvas = tag("canvas", "", { "aria-hidden": "true" });
      const name = `layer ${l + 1}, ${h < 0 ? "mean of all heads" : `head ${h + 1}`}`;
      const node = tag("button", "bva-thumb", { type: "button", role: "radio", "aria-checked": "false", "aria-label": name, title: name, tabindex: "-1", "data-layer": l, "data-head": h }, canvas);
      side.thumbs.push({ node, canvas, layer: l, head: h });
      side.grid.append(node);
    }
  }
  return side.grid;
}

function render({ model, el }) {
  const ui = build(), have = new Map(), asked = new Map();
  el.append(tag("style", "", {}, CSS), ui.root);
  let info = null, sides = [], now = null, bare = false, hover = null, wanted = "", drawn = "", speaking = 0;
  const get = (name) => model.get(name);
  const set = (changes) => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes(); };

  // -- pictures come one at a time --
  function ask(frame) {
    for (const [f, at] of asked) if (performance.now() - at > 3000) asked.delete(f);
    if (frame < 0 || frame >= info.frames || have.has(frame) || asked.has(frame) || asked.size > 1) return;  // a fast drag waits, then asks for where it is by then
    asked.set(frame, performance.now());
    model.send({ type: "picture", frame });
  }
  async function receive({ frame, words }, buffers) {
    const places = info.rows * info.columns, part = (k) => { const b = buffers[k]; return b.buffer ? b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) : b; };
    const found = await Promise.all(info.names.map(async (_, k) => {
      const jpeg = part(3 * k), picture = jpeg.byteLength ? await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })) : null;
      return { picture, map: unpack(part(3 * k + 1), part(3 * k + 2), places), heads: info.heads, words: words.length };
    }));
    asked.delete(frame);
    have.set(frame, { frame, words, sides: found });
    const keep = Math.max(3, KEEP / buffers.reduce((sum, b) => sum + b.byteLength, 0));
    while (have.size > keep) { const old = [...have.keys()].find((f) => f !== now?.frame && f !== frame); have.get(old).sides.forEach((s) => s.picture?.close()); have.delete(old); }
    if (frame === get("frame")) show(); else ask(get("frame"));
  }
  function show() {
    const next = have.get(get("frame"));
    if (!next) return ask(get("frame"));
    const words = now?.words.join("\n");
    have.delete(next.frame); have.set(next.frame, next);     // newest last
    now = next;
    if (words !== now.words.join("\n")) drawRibbon();
    ui.wait.hidden = true; ui.body.hidden = false;
    ui.root.dataset.ready = "yes"; ui.root.dataset.frame = now.frame;
    draw();
    ask(now.frame + 1);
  }

  // -- what is drawn --
  const word = () => clamp(get("word"), 0, now.words.length - 1);
  const mapsOf = (layer, head, w = word()) => now.sides.map((s) => mapOf(s, layer, head, w));
  function drawRibbon() {
    ui.words.replaceChildren(...now.words.map((text, k) => tag("button", `bva-word${plain(text) ? "" : " bva-mark"}`, { type: "button", role: "radio", "data-word": k, tabindex: "-1" },
      tag("span", "", {}, text || "␣"), tag("span", "bva-looks", { "aria-hidden": "true" }, ...now.sides.map((_, side) => tag("span", `bva-look bva-side${side}`))))));
  }
  function drawWords() {
    const chosen = get("patch"), at = chosen.length ? chosen[0] * info.columns + chosen[1] : -1;
    const looks = at < 0 ? [] : now.sides.map((s) => now.words.map((_, w) => mapOf(s, get("layer"), get("head"), w)[at]));
    const scale = at < 0 ? null : scaleOf(looks, info.kind), height = (v) => (info.signed ? Math.abs(2 * shade(v, scale) - 1) : shade(v, scale));
    ui.words.dataset.looks = at < 0 ? "no" : "yes";
    [...ui.words.children].forEach((node, k) => {
      const on = k === word();
      node.setAttribute("aria-checked", on); node.tabIndex = on ? 0 : -1;
      const said = looks.map((l, side) => `${info.names[side] || ""} ${short(l[k])}`.trim()).join(", ");
      node.setAttribute("aria-label", now.words[k] + (said ? `, looks at the place: ${said}` : ""));
      node.title = said ? `looks at the chosen place: ${said}` : "";
      node.querySelectorAll(".bva-look").forEach((bar, side) => { bar.style.height = at < 0 ? "0" : `${Math.max(4, 100 * height(looks[side][k]))}%`; });
    });
    return looks;
  }
  function scalesOf(maps, all = null) {                      // one for each side, after the rule
    if (get("scale") === "own") return maps.map((m) => scaleOf([m], info.kind));
    const shared = get("scale") === "all" ? all ?? allScale() : scaleOf(maps, info.kind);
    return maps.map(() => shared);
  }
  function drawPicture(side, picture) {
    const { canvas } = (side.context ??= side.picture.getContext("2d"));
    if (picture && (canvas.width !== picture.width || canvas.height !== picture.height)) { canvas.width = picture.width; canvas.height = picture.height; }
    if (picture) side.context.drawImage(picture, 0, 0);
    else { side.context.fillStyle = "#808080"; side.context.fillRect(0, 0, canvas.width, canvas.height); }
    side.stage.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
    side.stage.dataset.bare = bare ? "yes" : "no";
  }
  function factsOf(map, k, alike, looks) {
    const best = map.indexOf(Math.max(...map)), place = `row ${Math.floor(best / info.columns) + 1}, column ${(best % info.columns) + 1}`;
    const most = (looks[k] ?? []).map((v, w) => [v, w]).sort((a, b) => b[0] - a[0]).slice(0, 3).map(([v, w]) => `${now.words[w]} ${short(v)}`);
    return [info.shares ? `${percent(map.reduce((a, b) => a + b, 0))} of the attention of “${now.words[word()]}” falls on the picture` : "", `strongest at ${place}: ${short(map[best])}`,
      most.length ? `most at the chosen place: ${most.join(", ")}` : "",
      k && alike !== null ? `likeness to ${info.names[0] || "the first"}: r = ${alike.toFixed(2).replace(/^-0.00$/, "0.00").replace("-", "−")}` : ""].filter(Boolean);
  }
  function drawSides(looks) {
    const maps = mapsOf(get("layer"), get("head")), scales = scalesOf(maps), alike = maps.length > 1 ? likeness(...maps) : null;
    sides.forEach((side, k) => {
      drawPicture(side, now.sides[k].picture);
      paint(side.heat, info.rows, info.columns, maps[k], scales[k], info.signed, true);
      side.facts.replaceChildren(...factsOf(maps[k], k, alike, looks).map((text) => tag("div", "", {}, text)));
      paint(side.bar, 1, 128, Array.from({ length: 128 }, (_, i) => i / 127), [0, 1], info.signed);
      side.low.textContent = short(scales[k][0]); side.high.textContent = short(scales[k][1]);
    });
    return maps;
  }
  function allScale() {
    const heads = Array.from({ length: info.layers * info.heads }, (_, k) => mapsOf(Math.floor(k / info.heads), k % info.heads));
    return scaleOf(heads.flat(), info.kind);
  }
  function drawHeads() {
    const key = `${now.frame} ${word()} ${get("scale")}`, fresh = key !== drawn, all = fresh && get("scale") === "all" ? allScale() : null;
    drawn = key;
    if (sides[0].thumbs.length) sides[0].thumbs.forEach(({ layer, head }, i) => {
      const maps = fresh ? mapsOf(layer, head) : null, scales = fresh ? scalesOf(maps, all) : null, on = layer === get("layer") && head === shownHead();
      sides.forEach((side, k) => {
        const { canvas, node } = side.thumbs[i];
        if (fresh) paint(canvas, info.rows, info.columns, maps[k], scales[k], info.signed);
        if (node.getAttribute("aria-checked") !== String(on)) { node.setAttribute("aria-checked", on); node.tabIndex = on ? 0 : -1; }
      });
    });
  }
  const shownHead = () => (info.heads === 1 ? 0 : get("head"));
  function drawPlace(maps) {
    const place = hover ?? (get("patch").length ? get("patch") : null), chosen = get("patch");
    sides.forEach((side) => {
      side.place.hidden = !chosen.length;
      if (chosen.length) Object.assign(side.place.style, { top: `${(100 * chosen[0]) / info.rows}%`, left: `${(100 * chosen[1]) / info.columns}%`, height: `${100 / info.rows}%`, width: `${100 / info.columns}%` });
    });
    const head = info.layers * info.heads > 1 ? `layer ${get("layer") + 1}, ${info.heads === 1 ? "" : get("head") < 0 ? "mean of all heads" : `head ${get("head") + 1}`}`.replace(/, $/, "") : "";
    const say = [tag("b", "", {}, now.words[word()])];
    if (head) say.push(` · ${head}`);
    if (place) {
      const at = place[0] * info.columns + place[1];
      say.push(` · row ${place[0] + 1}, column ${place[1] + 1}: `, maps.map((m, k) => {
        const even = m.reduce((a, b) => a + b, 0) / m.length;
        return `${info.names[k] ? info.names[k] + " " : ""}${short(m[at])}${info.shares && even > 0 ? ` (${short(m[at] / even)} × an even spread)` : ""}`;
      }).join(", "));
    } else say.push(" · point at a place to read its number; choose one to see which words look there");
    ui.read.replaceChildren(...say);
  }
  function draw() {
    if (!now) return;
    drawPlace(drawSides(drawWords()));
    drawHeads();
    ui.slider.value = now.frame;
    ui.at.textContent = info.times ? `${clock(info.times[now.frame])} · frame ${now.frame + 1} of ${info.frames}` : `picture ${now.frame + 1} of ${info.frames}`;
    ui.slider.setAttribute("aria-valuetext", ui.at.textContent);
    ui.scale.value = get("scale"); ui.bare.setAttribute("aria-pressed", bare);
  }
  function say() { clearTimeout(speaking); speaking = setTimeout(() => { ui.said.textContent = ui.read.innerText.replace(/\s+/g, " "); }, 250); }

  // -- choices --
  const choose = (changes) => { hover = null; set(changes); draw(); say(); };
  const goFrame = (by) => { const frame = clamp(get("frame") + by, 0, info.frames - 1); if (frame !== get("frame")) { set({ frame }); show(); say(); } };
  const actions = { back: () => goFrame(-1), next: () => goFrame(1), scale: () => { const all = [...ui.scale.options].filter((o) => !o.disabled).map((o) => o.value); choose({ scale: all[(all.indexOf(get("scale")) + 1) % all.length] }); },
                    bare: () => { bare = !bare; draw(); }, svg: () => save("svg"), png: () => save("png") };
  const goWord = (to) => { choose({ word: clamp(to, 0, now.words.length - 1) }); ui.words.children[word()].focus(); };
  function goHead(side, dl, dh) {
    const low = info.heads > 1 ? -1 : 0;
    choose({ layer: clamp(get("layer") + dl, 0, info.layers - 1), head: clamp(shownHead() + dh, low, info.heads - 1) });
    side.grid.querySelector("[aria-checked=true]").focus();
  }
  function goPlace(dr, dc) {
    const [r, c] = get("patch").length ? get("patch") : [Math.floor(info.rows / 2) - dr, Math.floor(info.columns / 2) - dc];
    choose({ patch: [clamp(r + dr, 0, info.rows - 1), clamp(c + dc, 0, info.columns - 1)] });
  }
  const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  ui.root.addEventListener("keydown", (event) => {
    if (!now || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === ui.scale) return event.stopPropagation();
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, arrow = ARROWS[key], side = sides.find((s) => s.node.contains(event.target));
    let action = { ",": actions.back, ".": actions.next, m: () => choose({ head: -1 }), p: actions.bare, s: actions.scale, Escape: get("patch").length ? () => choose({ patch: [] }) : null }[key];
    if (arrow && ui.words.contains(event.target)) action = () => goWord(word() + (arrow[0] || arrow[1]));
    else if (arrow && side?.grid?.contains(event.target)) action = () => goHead(side, arrow[1], arrow[0]);
    else if (arrow && side?.stage === event.target) action = () => goPlace(...arrow);
    else if ((key === "Home" || key === "End") && ui.words.contains(event.target)) action = () => goWord(key === "Home" ? 0 : now.words.length - 1);
    if (action) { event.preventDefault(); action(); }
    if (key !== "Tab" && (key !== "Escape" || action)) event.stopPropagation();
  });
  ui.words.addEventListener("click", (event) => { const node = event.target.closest(".bva-word"); if (node) goWord(Number(node.dataset.word)); });
  ui.body.addEventListener("click", (event) => { const node = event.target.closest("[data-do]"); if (node && now) actions[node.dataset.do](); });
  ui.scale.addEventListener("change", () => choose({ scale: ui.scale.value }));
  ui.slider.addEventListener("input", () => { set({ frame: Number(ui.slider.value) }); show(); });
  function listen(side) {
    const at = (event) => { const box = side.stage.getBoundingClientRect(); return placeAt(event.clientX - box.left, event.clientY - box.top, box.width, box.height, info.rows, info.columns); };
    side.stage.addEventListener("click", (event) => { const patch = at(event), same = String(patch) === String(get("patch")); choose({ patch: same ? [] : patch }); });
    side.stage.addEventListener("pointermove", (event) => { const to = at(event); if (now && String(to) !== String(hover)) { hover = to; drawPlace(mapsOf(get("layer"), get("head"))); } });
    side.stage.addEventListener("pointerleave", () => { hover = null; if (now) draw(); });
    side.grid?.addEventListener("click", (event) => { const node = event.target.closest(".bva-thumb"); if (node) { choose({ layer: Number(node.dataset.layer), head: Number(node.dataset.head) }); node.focus(); } });
  }

  // -- export: Python says the words, the page draws --
  function save(format) { wanted = format; model.send({ type: "caption", choices: Object.fromEntries(["frame", "word", "layer", "head", "scale"].map((name) => [name, get(name)])) }); }  // choices may still be on their way
  function drawing(caption, alt) {
    const W = 320, gap = 24, top = 34, maps = mapsOf(get("layer"), get("head")), scales = scalesOf(maps);
    const width = Math.max(420, sides.length * (W + gap) + gap), height = Math.max(...sides.map((s) => (W * s.picture.height) / s.picture.width));
    const text = lines(caption, Math.floor((width - 2 * gap) / 6.9)), bottom = top + height + 52, total = bottom + 18 * text.length + 12;
    const panel = (side, k) => {
      const copy = tag("canvas", "", { width: side.picture.width, height: side.picture.height }), context = copy.getContext("2d"), h = (W * copy.height) / copy.width;
      context.filter = "grayscale(1) brightness(.6)"; context.drawImage(side.picture, 0, 0);
      const cells = Array.from(maps[k], (v, i) => { const s = shade(v, scales[k]), [r, c] = [Math.floor(i / info.columns), i % info.columns];
        return `<rect x="${((c * W) / info.columns).toFixed(2)}" y="${((r * h) / info.rows).toFixed(2)}" width="${(W / info.columns).toFixed(2)}" height="${(h / info.rows).toFixed(2)}" fill="rgb(${colour(s, info.signed)})" fill-opacity="${strength(s, info.signed).toFixed(2)}"/>`; });
      const legend = `<g transform="translate(0 ${height + 12})" font-size="13"><text x="52" y="10" text-anchor="end">${short(scales[k][0])}</text><rect x="60" width="160" height="12" fill="url(#g)"/><text x="228" y="10">${short(scales[k][1])}</text></g>`;
      return `<g transform="translate(${gap + k * (W + gap)} ${top})"><text y="-10" font-size="15" font-weight="600">${xml(info.names[k] || "")}</text><image href="${copy.toDataURL("image/jpeg", 0.9)}" width="${W}" height="${h}"/>${cells.join("")}${legend}</g>`;
    };
    const stops = Array.from({ length: 11 }, (_, i) => `<stop offset="${i * 10}%" stop-color="rgb(${colour(i / 10, info.signed)})"/>`).join("");
    return `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t d" viewBox="0 0 ${width} ${total}" width="${width}" height="${total}" font-family="system-ui, sans-serif" fill="#111">` +
      `<title id="t">${xml(caption)}</title><desc id="d">${xml(alt)}</desc><defs><linearGradient id="g">${stops}</linearGradient></defs><rect width="100%" height="100%" fill="#fff"/>` + sides.map(panel).join("") +
      `<g font-size="13">${text.map((line, i) => `<text x="${gap}" y="${bottom + 18 * i}">${xml(line)}</text>`).join("")}</g></svg>`;
  }
  async function finish({ caption, alt }) {
    const format = wanted, svg = new Blob([drawing(caption, alt)], { type: "image/svg+xml" });
    wanted = "";
    give(format === "svg" ? svg : await asPng(svg, { Title: caption, Description: alt }), `attention-${now.words[word()].replace(/[^a-z0-9]+/gi, "") || "word"}.${format}`);
  }
  async function asPng(svg, texts) {
    const url = URL.createObjectURL(svg), image = new Image(), canvas = document.createElement("canvas");
    image.src = url;
    await image.decode();
    canvas.width = 2 * image.width; canvas.height = 2 * image.height;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(url);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    return withTexts(await blob.arrayBuffer(), texts);
  }
  function give(blob, name) {
    const url = URL.createObjectURL(blob), link = tag("a", "", { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    ui.said.textContent = `saved as ${name}`;
  }

  // -- what Python says --
  const onMessage = (message, buffers) => {
    if (message.type === "picture" && info) receive(message, buffers).catch(() => { ui.wait.hidden = false; ui.wait.textContent = "this picture could not be read"; });
    if (message.type === "caption" && wanted && now) finish(message).catch(() => { ui.said.textContent = "the figure could not be saved"; });
    if (message.type !== "captures" || info) return;
    info = message;
    sides = info.names.map((_, k) => buildSide(info, k));
    sides.forEach(listen);
    ui.sides.replaceChildren(...sides.map((s) => s.node));
    ui.sides.dataset.count = sides.length;
    ui.title.textContent = info.title; ui.title.hidden = !info.title;
    ui.level.textContent = info.note;
    ui.says.replaceChildren(info.says[0].toUpperCase() + info.says.slice(1) + ".", ...[sides.length < 2 && !info.signed ? "Nothing stands beside it: an untrained twin shows what any learner of this make would do." : "", info.cut ? info.cut + "." : ""].filter(Boolean).map((t) => " " + t));
    ui.frames.hidden = info.frames < 2; ui.slider.max = info.frames - 1;
    const useful = { head: true, all: info.layers * info.heads > 1, own: sides.length > 1 };
    ui.scale.querySelectorAll("option").forEach((option) => { option.hidden = option.disabled = !useful[option.value]; if (info.layers * info.heads === 1 && ALONE[option.value]) option.textContent = ALONE[option.value]; });
    ui.scale.hidden = !useful.all && !useful.own;
    show();
  };
  const onChoice = () => { if (now && get("frame") === now.frame) draw(); };
  model.on("msg:custom", onMessage);
  const onFrame = () => { if (info) show(); }, NAMES = ["word", "layer", "head", "patch", "scale"];
  model.on("change:frame", onFrame);
  for (const name of NAMES) model.on(`change:${name}`, onChoice);
  model.send({ type: "hello" });
  const patience = setTimeout(() => { if (!info) ui.wait.textContent = "No kernel answers: run this cell again."; }, 8000);
  return () => { clearTimeout(patience); clearTimeout(speaking); model.off("msg:custom", onMessage); model.off("change:frame", onFrame); for (const name of NAMES) model.off(`change:${name}`, onChoice); have.forEach((p) => p.sides.forEach((s) => s.picture?.close())); have.clear(); };
}

const CSS = `
.bva {
  --bva-paper: var(--jp-layout-color0, #fff); --bva-soft: var(--jp-layout-color2, #eee); --bva-line: var(--jp-border-color1, #bdbdbd);
  --bva-ink: var(--jp-ui-font-color0, #111); --bva-quiet: var(--jp-ui-font-color1, #3c3c3c); --bva-focus: var(--jp-brand-color1, #1976d2);
  --bva-one: #0072b2; --bva-two: #c94f00;
  box-sizing: border-box; max-width: 1180px; padding: 12px; border: 1px solid var(--bva-line); border-radius: 8px; background: var(--bva-paper); color: var(--bva-ink);
  font: 15px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); container-type: inline-size;
}
@media (prefers-color-scheme: dark) { .bva {
  --bva-paper: var(--jp-layout-color0, #111); --bva-soft: var(--jp-layout-color2, #333); --bva-line: var(--jp-border-color1, #616161);
  --bva-ink: var(--jp-ui-font-color0, #fff); --bva-quiet: var(--jp-ui-font-color1, #dedede); --bva-focus: var(--jp-brand-color1, #64b5f6); } }
[data-jp-theme-light="false"] .bva { --bva-one: #56b4e9; --bva-two: #ee8448; }
.bva *, .bva *::before { box-sizing: border-box; }
.bva [hidden] { display: none !important; }
.bva-heading { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; }
.bva-title { font-weight: 600; }
.bva-level { font-size: 14px; color: var(--bva-quiet); border: 1px solid var(--bva-line); border-radius: 999px; padding: 0 10px; }
.bva-says { flex: 1 1 100%; font-size: 14px; color: var(--bva-quiet); }
.bva-wait { padding: 40px 12px; text-align: center; color: var(--bva-quiet); }
.bva-words { display: flex; flex-wrap: wrap; gap: 4px; margin: 10px 0; }
.bva-word { display: flex; flex-direction: column; align-items: stretch; gap: 3px; min-width: 32px; padding: 3px 9px; border: 1px solid var(--bva-line); border-radius: 6px; background: var(--bva-paper); color: var(--bva-ink); font: inherit; font-size: 18px; cursor: pointer; }
.bva-word.bva-mark { color: var(--bva-quiet); font: 14px/1.9 ui-monospace, monospace; }
.bva-word:hover, .bva-button:hover { background: var(--bva-soft); }
.bva-word[aria-checked="true"] { border-color: var(--bva-ink); box-shadow: inset 0 0 0 1px var(--bva-ink); font-weight: 700; }
.bva-looks { display: flex; justify-content: center; align-items: flex-end; gap: 3px; height: 30px; }
.bva-words[data-looks="no"] .bva-looks { display: none; }
.bva-look { flex: 0 1 13px; border-radius: 2px 2px 0 0; }
.bva-side0 { background: var(--bva-one); }
.bva-side1 { background: repeating-linear-gradient(135deg, var(--bva-two) 0 3px, transparent 3px 6px); box-shadow: inset 0 0 0 1px var(--bva-two); }
.bva-swatch { display: inline-block; width: 22px; height: 11px; margin-right: 7px; border-radius: 2px; }
.bva-sides[data-count="1"] .bva-swatch { display: none; }
.bva-frames { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: 0 0 10px; }
.bva-slider { flex: 1 1 120px; max-width: 420px; accent-color: var(--bva-focus); }
.bva-at { font-size: 14px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bva-sides { display: grid; grid-template-columns: minmax(0, 1fr); gap: 16px 24px; }
.bva-sides[data-count="2"] { grid-template-columns: repeat(2, minmax(0, 1fr)); grid-template-rows: auto auto; }
.bva-sides[data-count="2"] .bva-side { display: grid; grid-row: span 2; grid-template-rows: subgrid; }
.bva-side { min-width: 0; display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: flex-start; align-content: flex-start; }
.bva-zoom { flex: 0 1 auto; display: flex; flex-wrap: wrap; align-items: flex-start; align-content: flex-start; gap: 8px 14px; min-width: 0; max-width: 100%; }
.bva-stage { position: relative; flex: 0 0 auto; width: clamp(200px, 27cqi, 310px); max-width: 100%; border-radius: 6px; overflow: hidden; cursor: crosshair; background: var(--bva-soft); touch-action: manipulation; }
.bva-picture, .bva-heat { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.bva-picture { filter: grayscale(1) brightness(.6); } .bva-stage[data-bare="yes"] .bva-picture { filter: none; } .bva-stage[data-bare="yes"] .bva-heat { display: none; }
.bva-heat, .bva-thumb canvas, .bva-bar { image-rendering: pixelated; }
.bva-place { position: absolute; border: 2px solid #fff; box-shadow: 0 0 0 2px #000, inset 0 0 0 1px #000; pointer-events: none; }
.bva-info { flex: 1 1 150px; max-width: 240px; min-width: 0; display: flex; flex-direction: column; gap: 6px; font-size: 14px; }
.bva-name { font-size: 16px; font-weight: 600; overflow-wrap: anywhere; }
.bva-facts { display: flex; flex-direction: column; gap: 6px; color: var(--bva-quiet); }
.bva-scale { display: flex; align-items: center; gap: 6px; font-variant-numeric: tabular-nums; }
.bva-bar { flex: 1 1 60px; min-width: 30px; max-width: 150px; width: 0; height: 12px; border-radius: 2px; }
.bva-heads { flex: 1 1 280px; display: grid; gap: 3px; align-items: center; align-content: start; justify-content: start; min-width: 0; max-width: 100%; }
.bva-label { font-size: 13px; color: var(--bva-quiet); padding-right: 5px; white-space: nowrap; } .bva-top { text-align: center; padding: 0; }
.bva-thumb { position: relative; padding: 0; border: 0; border-radius: 3px; background: none; cursor: pointer; line-height: 0; }
.bva-thumb canvas { width: 100%; border-radius: 2px; box-shadow: 0 0 0 1px var(--bva-line); }
.bva-thumb[aria-checked="true"] { box-shadow: 0 0 0 2px var(--bva-paper), 0 0 0 5px var(--bva-ink); z-index: 1; }
.bva-thumb:focus-visible { outline-offset: 5px !important; z-index: 2; }
.bva-read { min-height: 22px; margin: 12px 0 10px; font-size: 14px; font-variant-numeric: tabular-nums; }
.bva-foot { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: flex-start; }
.bva-tools { display: flex; flex-wrap: wrap; gap: 4px; }
.bva-button { min-height: 32px; padding: 0 11px; border: 1px solid var(--bva-line); border-radius: 6px; background: var(--bva-paper); color: var(--bva-ink); font: inherit; font-size: 14px; cursor: pointer; }
.bva-button[aria-pressed="true"] { background: var(--bva-ink); color: var(--bva-paper); border-color: var(--bva-ink); }
.bva-help { font-size: 14px; padding-top: 5px; } .bva-help summary { cursor: pointer; width: max-content; border-radius: 4px; }
.bva .bva-keys { display: grid; grid-template-columns: max-content 1fr; gap: 3px 12px; margin: 6px 0 0; } .bva .bva-keys dt, .bva .bva-keys dd { margin: 0; font-weight: 400; }
.bva kbd { font: 13px ui-monospace, monospace; border: 1px solid var(--bva-line); border-radius: 4px; padding: 0 5px; background: var(--bva-paper); color: var(--bva-ink); }
.bva button:focus-visible, .bva summary:focus-visible, .bva-stage:focus-visible, .bva-slider:focus-visible { outline: 3px solid var(--bva-focus); outline-offset: 2px; }
.bva-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@container (max-width: 560px) {
  .bva-sides[data-count="2"] { gap: 12px; grid-template-rows: auto; } .bva-sides[data-count="2"] .bva-side { display: contents; } .bva-sides[data-count="2"] .bva-heads { grid-column: 1 / -1; }
  .bva-sides[data-count="2"] .bva-side:first-child .bva-zoom { order: -2; } .bva-sides[data-count="2"] .bva-side:last-child .bva-zoom { order: -1; }
  .bva-stage { width: 100%; max-width: 260px; } .bva-word { font-size: 16px; padding: 3px 7px; } }
`;

export default { render };
