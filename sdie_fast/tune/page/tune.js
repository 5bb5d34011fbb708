// The page: which recipe, which picture, what is asked of the server and when; the keyboard; the dialogs.
import { Controls, el } from "./controls.js";
import { Stage, difference, drawHistogram, histogram, paint, paintMask, shrink, table } from "./view.js";

const $ = (selector) => document.querySelector(selector);
const copy = (value) => JSON.parse(JSON.stringify(value));
const IN_TIME = 60; // milliseconds from a change to the screen that a preview aims at
const RESTING = 160, IDLE = 450; // milliseconds without a change, before the whole picture, and before measurements

const page = {
  told: null, pictures: [], name: null, original: null, right: null, left: null, masks: {},
  recipes: null, active: "A", round: 0, against: "original", showMask: false, options: {},
  black: 0, white: 1, seen: new Set(), titles: { A: "", B: "" }, saved: {}, undo: [], redo: [], costs: new Map(),
  pace: 4e-5, latency: [], dirty: null, busy: false, turn: 0, sent: 0,
};
window.tune = page; // for tests, and the curious

const recipe = () => page.recipes[page.active];
const other = () => (page.active === "A" ? "B" : "A");
const key = (value) => JSON.stringify(value);

// ---- the server

async function ask(path, body) {
  const given = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(path, given);
  } catch {
    throw new Error("The server does not answer. Is sdie-fast tune still running?");
  }
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error ?? `${reply.status}`);
  const facts = reply.headers.get("X-Facts");
  if (facts === null) return reply.json();
  const raw = await reply.arrayBuffer(), told = JSON.parse(facts);
  return { ...told, data: told.bytes === 2 ? new Uint16Array(raw) : new Uint8Array(raw) };
}

const question = (own, rest = {}) => ({ name: page.name, recipe: own, options: page.options, ...rest });

function complain(error) {
  const message = $("#message");
  message.hidden = !error;
  message.textContent = error ? error.message ?? String(error) : "";
}

// ---- what is on the stage

const topOf = (picture) => (picture.bytes === 1 ? 255 : picture.real ? 65535 : page.options.white_level ??
  page.original.white_level ?? 65535);
// Values above the white level are there, too, where it is not told yet.
const lut = (picture) => {
  const top = topOf(picture), all = picture.bytes === 1 ? 255 : 65535, own = table(top, page.black, page.white);
  if (all === top) return own;
  const longer = new Uint8Array(all + 1).fill(255);
  longer.set(own.subarray(0, all + 1));
  return longer;
};

function show() {
  const { original, right, left } = page;
  if (!original) return;
  const before = page.against === "other" ? left ?? original : original, after = right ?? original;
  const factor = after.factor ?? 1;
  const sides = { left: { canvas: painted(before), factor: before.factor }, right: { canvas: painted(after), factor } };
  if (stage.view === "difference") {
    const against = (before.factor ?? 1) === factor ? before : shrunk(before, factor);
    const gain = Number($("#gain").value);
    const same = against.width === after.width && against.height === after.height;
    sides.difference = { canvas: same ? difference(against, after, topOf(after), gain) : painted(after), factor };
  }
  stage.sides = sides;
  stage.masks = { left: page.showMask && page.masks.left, right: page.showMask && page.masks.right };
  stage.draw();
}

const drawn = new WeakMap(), small = new WeakMap();
function painted(picture) {
  const own = key([page.black, page.white, page.options.white_level]);
  if (drawn.get(picture)?.own !== own) drawn.set(picture, { own, canvas: paint(picture, lut(picture)) });
  return drawn.get(picture).canvas;
}
function shrunk(picture, factor) {
  const before = picture.factor ?? 1;
  if (before > factor) return picture;
  if (small.get(picture)?.factor !== factor) small.set(picture, { ...shrink(picture, factor / before), factor });
  return small.get(picture);
}

function display() {
  if (!page.original) return;
  const count = (p) => p && histogram(p, topOf(p), 128);
  drawHistogram($("#histogram"), count(page.against === "other" ? page.left : page.original), count(page.right),
    page.black, page.white);
  const top = topOf(page.original), text = (v) => (page.original.real ? v.toFixed(3) : String(Math.round(v * top)));
  for (const name of ["black", "white"]) {
    $(`#${name}`).value = page[name];
    $(`#${name}-value`).textContent = text(page[name]);
  }
}

const stage = new Stage($("#canvas"), (s) => { $("#zoom").textContent = `${Math.round(100 * s.scale)}%`; });
page.stage = stage;

/** The frame after the next one is on the screen. */
const shown = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

// ---- changes, and what they bring about

const controls = () => page.controls.show(recipe(), page.round);

function edit(change, done = true) {
  if (page.before === undefined) page.before = memory();
  change(recipe());
  if (done) {
    if (page.before !== memory()) { page.undo.push(page.before); page.redo = []; }
    page.undo = page.undo.slice(-200);
    page.before = undefined;
    keep();
  }
  page.saved[page.active] = null;
  controls();
  heads();
  touch();
}

const memory = () => key({ recipes: page.recipes, active: page.active, titles: page.titles });
// What is being tuned outlives a closed browser, until the command names another recipe to begin with.
const place = () => `sdie-fast tune ${page.told.folder} ${key(page.told.recipe.weights)}`;
function keep() {
  try { localStorage.setItem(place(), memory()); } catch { /* private windows may have none */ }
}
function kept() {
  try { return JSON.parse(localStorage.getItem(place())); } catch { return null; }
}

function recall(text) {
  Object.assign(page, JSON.parse(text));
  page.round = Math.min(page.round, recipe().weights.length - 1);
  page.saved = {};
  controls();
  heads();
  touch();
  compare();
}

function travel(from, to) {
  if (!page[from].length) return;
  page[to].push(memory());
  recall(page[from].pop());
  keep();
}

/** Something changed: a preview at once, the whole picture when it rests. */
function touch() {
  page.dirty ??= performance.now();
  page.turn++;
  clearTimeout(page.resting);
  clearTimeout(page.idling);
  pump();
}

function preview() {
  const pixels = page.original.width * page.original.height;
  return [1, 2, 3, 4, 6, 8].find((f) => pixels * page.pace / (f * f) <= IN_TIME) ?? 12;
}

async function pump() {
  if (page.busy || page.dirty === null || !page.original) return;
  page.busy = true;
  const begin = page.dirty, sent = performance.now(), name = page.name, factor = preview();
  page.dirty = null;
  try {
    const found = await ask("api/enhance", question(recipe(), { factor }));
    page.sent++;
    if (name === page.name) {
      page.right = found;
      show();
      complain();
      await shown();
      // What a pixel costs, the way to the screen included; slower is believed at once, quicker by and by.
      const pace = (performance.now() - sent) / (found.width * found.height);
      page.pace = pace > page.pace ? pace : 0.7 * page.pace + 0.3 * pace;
      page.latency.push({ ms: performance.now() - begin, factor: found.factor });
      page.latency = page.latency.slice(-500);
      display();
      const ms = page.latency.at(-1).ms;
      $("#answer").textContent = `answered in ${ms.toFixed(0)} ms${found.factor > 1 ? ` at 1/${found.factor}` : ""}`;
    }
  } catch (error) { complain(error); }
  page.busy = false;
  if (page.dirty !== null) return pump();
  clearTimeout(page.resting);
  page.resting = setTimeout(rest, page.right?.factor > 1 ? RESTING : 0);
}

/** The whole picture, then masks, then what everything costs; whatever changes meanwhile goes first. */
async function rest() {
  const turn = page.turn, name = page.name, stale = () => turn !== page.turn || name !== page.name;
  try {
    if (page.right?.factor > 1) {
      const found = await ask("api/enhance", question(recipe()));
      if (stale()) return;
      page.right = found;
      show();
      display();
    }
    await segment(stale);
  } catch (error) { if (!stale()) complain(error); }
  if (stale()) return;
  clearTimeout(page.idling);
  page.idling = setTimeout(() => measure(stale), IDLE);
}

async function compare() {
  page.left = null;
  if (page.against === "other" && page.name) {
    try {
      const name = page.name, found = await ask("api/enhance", question(page.recipes[other()]));
      if (name === page.name) page.left = found;
    } catch (error) { complain(error); }
  }
  show();
  display();
}

async function segment(stale) {
  if (!page.showMask) return;
  const mask = page.pictures.find((p) => p.name === page.name)?.mask ?? null;
  const sides = { left: page.against === "other" ? page.recipes[other()] : null, right: recipe() };
  const told = [];
  for (const [side, own] of Object.entries(sides)) {
    const found = await ask("api/mask", question(own, { mask }));
    if (stale()) return;
    const factor = page.original.width / found.width;
    page.masks[side] = { canvas: paintMask(found), factor, facts: found };
    told.push(found.iou === undefined ? `sure ${found.quality.toFixed(2)}` : `IoU ${(100 * found.iou).toFixed(1)}`);
    $("#iou").textContent = told.join(" → ");
    show();
  }
}

const alone = (name) => ({ filters: [name], weights: [[1]], params: recipe().params });
const costKey = (own) => {
  const used = own.filters.filter((_, k) => own.weights.some((w) => w[k] > 0));
  const params = Object.entries(own.params).filter(([n]) => n === "window" || used.some((f) => n.startsWith(`${f}_`)));
  return key([page.name, used, own.weights.map((w) => w.map((v) => v > 0)), params, page.options]);
};

async function measure(stale) {
  const known = (name) => page.costs.get(costKey(alone(name)))?.seconds;
  page.controls.costs(known);
  for (const own of [recipe(), ...recipe().filters.map(alone)]) {
    const id = costKey(own);
    try {
      if (!page.costs.has(id)) page.costs.set(id, await ask("api/measure", question(own)));
    } catch { return; } // the same question's picture has told why
    if (stale()) return;
    if (own === recipe()) figures(page.costs.get(id));
    page.controls.costs(known);
  }
}

function figures(cost) {
  const n = recipe().weights.length, ms = 1e3 * cost.seconds;
  const per = 1 / cost.seconds, show = (v) => (v < 10 ? v.toFixed(1) : v.toFixed(0));
  $("#time").textContent = `${show(ms / n)} ms a round, ${show(ms)} ms for ${n}`;
  $("#rate").textContent = `${show(cost.rate / 1e6)} Mpx/s, ${show(per)} pictures/s on ${page.told.threads} thread` +
    (page.told.threads > 1 ? "s" : "");
}

// ---- pictures

async function list() {
  const found = await ask("api/pictures");
  if (key(found.pictures) === page.listed) return;
  const before = page.pictures;
  page.listed = key(found.pictures);
  page.pictures = found.pictures;
  const thumbs = new Map([...document.querySelectorAll("#thumbs button")].map((b) => [b.dataset.id, b]));
  $("#thumbs").replaceChildren(...found.pictures.map((p) => {
    const id = `${p.name} ${p.stamp}`;
    const query = new URLSearchParams({ name: p.name, stamp: p.stamp });
    return thumbs.get(id) ?? el("button", { title: p.name, dataset: { id, name: p.name }, onclick: () => open(p.name) },
      el("img", { src: `api/thumb?${query}`, alt: "", loading: "lazy", width: 112, height: 112, onerror() {
        this.replaceWith(el("span", { className: "broken", textContent: "cannot be read" }));
      } }), el("small", { textContent: p.name.split("/").at(-1) }),
      p.mask ? el("i", { title: `with a mask: ${p.mask}` }) : null);
  }), ...(found.more ? [el("p", { textContent: "and more" })] : []));
  mark();
  $("#thumbs").toggleAttribute("data-empty", !found.pictures.length);
  const was = before.find((p) => p.name === page.name), now = found.pictures.find((p) => p.name === page.name);
  if (!found.pictures.length) complain("No PNG, JPEG, TIFF or BMP pictures in this folder yet.");
  else if (!now) { if (!page.name || !was) open(found.pictures[0].name); else complain(`${page.name} is gone.`); }
  else if (was && was.stamp !== now.stamp) open(page.name);
}

function mark() {
  for (const b of document.querySelectorAll("#thumbs button")) {
    const on = b.dataset.name === page.name;
    b.setAttribute("aria-current", String(on));
    b.tabIndex = on ? 0 : -1;
    if (on) b.scrollIntoView({ block: "nearest" });
  }
}

async function open(name) {
  page.name = name;
  page.turn++;
  mark();
  try {
    const found = await ask(`api/picture?${new URLSearchParams({ name })}`);
    if (page.name !== name) return;
    Object.assign(page, { original: found, right: null, left: null, masks: {} });
    page.seen.add(name);
    $("#iou").textContent = $("#time").textContent = $("#rate").textContent = "";
    $("#level").hidden = found.bytes === 1 || !!found.real;
    $("#level small").textContent = found.max < 4096 && !page.options.white_level && !found.white_level ?
      `values up to ${found.max}: 12 bits?` : `values up to ${found.max}`;
    $("#colour").hidden = found.channels === 1;
    stage.size(found.width, found.height);
    if (found.bytes === 2) spread(); else { page.black = 0; page.white = 1; }
    const [h, w] = found.whole, kind = found.bytes === 1 ? "8 bits" : found.real ? "float" : "16 bits";
    page.about = `${w} × ${h}, ${kind}${found.channels === 3 ? ", colour" : ""}` +
      (h * w > found.height * found.width ? `; the middle ${found.width} × ${found.height} is shown` : "");
    complain();
    show();
    heads();
    touch();
    if (page.against === "other") compare();
  } catch (error) {
    if (page.name !== name) return;
    Object.assign(page, { original: null, right: null, about: "" });
    stage.sides = {}; stage.masks = {};
    stage.draw();
    complain(error);
    heads();
  }
}

function step(by) {
  const at = page.pictures.findIndex((p) => p.name === page.name);
  const next = page.pictures[Math.max(0, Math.min(page.pictures.length - 1, at + by))];
  if (next && next.name !== page.name) open(next.name);
}

/** Black and white where all but one in two hundred values lie between. */
function spread() {
  const counts = histogram(page.original, topOf(page.original), 1000), total = counts.reduce((a, b) => a + b);
  const at = (share) => { let sum = 0; return counts.findIndex((n) => (sum += n) >= share * total) / 1000; };
  page.black = Math.max(0, at(0.005) - 0.002);
  page.white = Math.min(1, Math.max(at(0.995) + 0.002, page.black + 0.01));
}

// ---- heads, dialogs, keys

function heads() {
  $("#title").textContent = page.titles[page.active] + (page.saved[page.active] ? "" : " (edited)");
  const after = `recipe ${page.active}`, before = page.against === "other" ? `recipe ${other()}` : "picture";
  const diff = stage.view === "difference";
  $("#left").textContent = diff ? `${after} − ${before}` : before;
  $("#right").textContent = diff ? "" : after;
  $("#undo").disabled = !page.undo.length;
  $("#redo").disabled = !page.redo.length;
  $("#gain").hidden = !diff;
  $("#pixel").textContent = page.about ?? "";
  for (const [id, value] of [["active", page.active], ["view", stage.view]])
    for (const b of document.querySelectorAll(`#${id} button`)) {
      b.setAttribute("role", "radio");
      b.setAttribute("aria-checked", String(b.dataset.value === value));
    }
  $("#against").value = page.against;
  $("#mask").setAttribute("aria-pressed", String(page.showMask));
  $("#white-level").value = page.options.white_level ?? "";
  $("#per-channel").checked = !!page.options.per_channel;
  for (const e of document.querySelectorAll(".letter")) e.textContent = page.active;
}

function activate(letter) {
  page.active = letter;
  page.round = Math.min(page.round, recipe().weights.length - 1);
  page.masks = {};
  keep();
  controls();
  heads();
  touch();
  compare();
}

function setView(view) {
  stage.view = view;
  if (stage.fitted) stage.fit();
  heads();
  show();
}

function setAgainst(value) { page.against = value; page.masks = {}; heads(); compare(); touch(); }
function setMask(on) { page.showMask = on; if (!on) $("#iou").textContent = ""; heads(); show(); touch(); }
function setOption(name, value) { page.options = { ...page.options, [name]: value }; page.masks = {}; heads(); touch(); compare(); }
function level(black, white) { page.black = black; page.white = white; show(); display(); }

function addRound() {
  if (recipe().weights.length >= page.told.most_rounds) return;
  const at = page.round;
  page.round++;
  edit((r) => r.weights.splice(at + 1, 0, copy(r.weights[at])));
}
function removeRound() {
  if (recipe().weights.length < 2) return;
  const at = page.round;
  page.round = Math.max(0, Math.min(at, recipe().weights.length - 2));
  edit((r) => r.weights.splice(at, 1));
}
function choose(k) { page.round = Math.max(0, Math.min(recipe().weights.length - 1, k)); controls(); }

function dialog(name) {
  const box = $(`#${name}-dialog`);
  box.querySelector(".error")?.setAttribute("hidden", "");
  heads();
  if (!box.open) box.showModal();
  return box;
}
function wrong(box, error) {
  const text = box.querySelector(".error");
  text.hidden = false;
  text.textContent = error.message;
}

function adopt(letter, found) {
  page.undo.push(memory());
  page.redo = [];
  page.recipes[letter] = { filters: found.filters, weights: found.weights, params: found.params };
  page.titles[letter] = found.title ?? found.name;
  page.round = 0;
  activate(letter);
}

const actions = {
  undo: () => travel("undo", "redo"),
  redo: () => travel("redo", "undo"),
  save() {
    const box = dialog("save");
    if (!box.querySelector("[name=name]").value && page.titles[page.active] !== "default")
      box.querySelector("[name=name]").value = page.titles[page.active];
    $("#place").textContent = `In ${page.told.recipes}. A note of the ${page.seen.size} picture(s) looked at is added.`;
  },
  async load() {
    const box = dialog("load");
    try {
      const known = await ask("api/recipes");
      $("#known").replaceChildren(...known.map((r) => el("button", {
        type: "button", disabled: !!r.error, async onclick() {
          try {
            const found = await ask("api/load", { name: r.name, picture: page.name });
            adopt(page.active, found);
            page.saved[page.active] = r.name || null;
            heads();
            box.close();
          } catch (error) { wrong(box, error); }
        },
      }, el("b", { textContent: r.name || r.title }), el("small", {
        textContent: r.error ?? `${r.rounds} round${r.rounds > 1 ? "s" : ""}${r.kind === "fixed" ? "" : `, ${r.kind}`}`,
      }), el("p", { textContent: r.notes ?? "" }))));
    } catch (error) { wrong(box, error); }
  },
  async code() {
    const box = dialog("code");
    try {
      const found = await ask("api/code", question(recipe(), { saved: page.saved[page.active] ?? null }));
      for (const name of ["python", "command"]) $(`#${name}`).textContent = found[name];
    } catch (error) { wrong(box, error); }
  },
  search() { dialog("search"); watch(); },
  help() { dialog("help"); },
  in: () => stage.zoom(1.25), out: () => stage.zoom(0.8), fit: () => stage.fit(),
  whole: () => stage.zoom(1 / stage.scale),
  mask: () => setMask(!page.showMask),
  more: addRound, less: removeRound,
  auto() { if (page.original) { spread(); show(); display(); } },
  full: () => level(0, 1),
};

$("#save-dialog form").onsubmit = async (event) => {
  event.preventDefault();
  const box = $("#save-dialog"), form = event.target, name = form.elements.name.value.trim();
  const body = { ...question(recipe()), name, notes: form.elements.notes.value, seen: [...page.seen] };
  try {
    let found;
    try { found = await ask("api/save", body); } catch (error) {
      if (!error.message.includes("is taken") || !confirm(`Replace the recipe ${name}?`)) throw error;
      found = await ask("api/save", { ...body, replace: true });
    }
    page.titles[page.active] = page.saved[page.active] = found.name;
    keep();
    heads();
    box.close();
  } catch (error) { wrong(box, error); }
};

async function watch() {
  clearTimeout(page.watching);
  const box = $("#search-dialog");
  try {
    const told = await ask("api/search"), percent = (v) => (100 * v).toFixed(1), running = told.state === "running";
    $("#progress").value = told.total ? Math.min(1, told.done / told.total) : 0;
    const left = told.done > 0 ? Math.round(told.seconds / told.done * (told.total - told.done)) : null;
    const scores = told.best === undefined ? "" : `FB-IoU ${percent(told.alone)} untouched, ` +
      `${percent(told.start)} as it began, ${percent(told.best)} at best.`;
    $("#found").textContent = told.state === "none" ? "" : told.error ?? [
      running ? `${told.done} of ${told.total} on ${told.pictures} pictures${left === null ? "" : `, ${left} s left`}.` :
        told.state === "done" ? "Done." : "Cancelled.", scores].join(" ");
    page.best = told.recipe ?? null;
    $("#take").hidden = !page.best || running;
    $("#stop").hidden = !running;
    $("#begin").hidden = running;
    $("#search").classList.toggle("busy", running);
    $("#search").textContent = running ? `Search ${Math.round(100 * told.done / told.total)}%` : "Search";
    if (running) page.watching = setTimeout(watch, 700);
  } catch (error) { wrong(box, error); }
}
$("#begin").onclick = async () => {
  const box = $("#search-dialog"), form = box.querySelector("form").elements;
  const number = (name) => Number(form[name].value);
  try {
    await ask("api/search", question(recipe(), { each: number("each"), calls: number("calls"), size: number("size") }));
    dialog("search");
    watch();
  } catch (error) { wrong(box, error); }
};
$("#stop").onclick = () => ask("api/cancel", {}).then(() => setTimeout(watch, 300)).catch(complain);
$("#take").onclick = () => {
  adopt(page.active, { ...page.best, name: "search" });
  $("#search-dialog").close();
};

const KEYS = [
  ["J, K", "next, previous picture", { j: () => step(1), k: () => step(-1) }],
  ["1, 2, 3", "slider, side by side, difference",
    { 1: () => setView("split"), 2: () => setView("side"), 3: () => setView("difference") }],
  [", .", "move the slider's line", { ",": () => stage.slide(stage.split - 0.02), ".": () => stage.slide(stage.split + 0.02) }],
  ["+ - 0 F", "larger, smaller, one to one, whole picture",
    { "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.whole, f: actions.fit }],
  ["Arrows", "on the picture: move it; on a slider: change it", {}],
  ["C, X", "against the other recipe; edit the other recipe",
    { c: () => setAgainst(page.against === "other" ? "original" : "other"), x: () => activate(other()) }],
  ["D", "magnify the difference", { d() { const g = $("#gain"); g.selectedIndex = (g.selectedIndex + 1) % 3; show(); } }],
  ["M", "mask", { m: actions.mask }],
  ["R, Shift+R", "next, previous round", { r: () => choose(page.round + 1), R: () => choose(page.round - 1) }],
  ["N, Shift+N", "add, remove a round", { n: addRound, N: removeRound }],
  ["W", "to the first weight; Tab goes on", { w: () => $("#filters input").focus() }],
  ["E", "show or hide the parameters of the weight in focus",
    { e: () => document.activeElement.closest(".filter")?.querySelector(".name").click() }],
  ["L, Shift+L", "black and white from the picture; the whole range", { l: actions.auto, L: actions.full }],
  ["Ctrl+Z, Ctrl+Y", "undo, redo", {}],
  ["S, O, P, G", "save, load, code, search", { s: actions.save, o: actions.load, p: actions.code, g: actions.search }],
  ["?", "this list", { "?": actions.help }],
];
const bound = Object.assign({}, ...KEYS.map(([, , keys]) => keys));

document.addEventListener("keydown", (e) => {
  const typing = e.target.matches("textarea, select, input:not([type=range]):not([type=checkbox])");
  if (e.altKey || typing || document.querySelector("dialog[open]")) return;
  if (e.ctrlKey || e.metaKey) {
    const way = { z: e.shiftKey ? "redo" : "undo", y: "redo" }[e.key.toLowerCase()];
    if (way) { e.preventDefault(); actions[way](); }
    return;
  }
  const arrow = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[e.key];
  if (arrow && e.target === stage.canvas) { e.preventDefault(); return stage.pan(...arrow); }
  if (arrow && e.target.closest("#thumbs")) { e.preventDefault(); return step(arrow[0] + arrow[1] < 0 ? 1 : -1); }
  if (arrow && e.target.closest("#rounds")) { e.preventDefault(); return choose(page.round + (arrow[0] + arrow[1] < 0 ? 1 : -1)); }
  if (e.target.matches("input[type=range]") && "+-0".includes(e.key)) return;
  if (Object.hasOwn(bound, e.key)) { e.preventDefault(); bound[e.key](); }
});

// ---- the beginning

function wire() {
  for (const [name, act] of Object.entries(actions)) $(`#${name}`).onclick = () => act();
  for (const b of document.querySelectorAll("dialog [value=cancel]")) b.onclick = () => b.closest("dialog").close();
  for (const b of document.querySelectorAll("[data-copy]")) b.onclick = async () => {
    try { await navigator.clipboard.writeText($(`#${b.dataset.copy}`).textContent); b.textContent = "Copied"; }
    catch { getSelection().selectAllChildren($(`#${b.dataset.copy}`)); b.textContent = "Selected"; }
    setTimeout(() => { b.textContent = "Copy"; }, 1500);
  };
  $("#active").onclick = (e) => { if (e.target.dataset.value) activate(e.target.dataset.value); };
  $("#view").onclick = (e) => { if (e.target.dataset.value) setView(e.target.dataset.value); };
  $("#against").onchange = (e) => setAgainst(e.target.value);
  $("#gain").onchange = show;
  $("#black").oninput = (e) => level(Math.min(Number(e.target.value), page.white - 0.005), page.white);
  $("#white").oninput = (e) => level(page.black, Math.max(Number(e.target.value), page.black + 0.005));
  $("#white-level").onchange = (e) => setOption("white_level", e.target.value ? Number(e.target.value) : null);
  $("#per-channel").onchange = (e) => setOption("per_channel", e.target.checked);
  $("#keys").replaceChildren(...KEYS.flatMap(([keys, text]) => [el("dt", { textContent: keys }), el("dd", { textContent: text })]));
  stage.canvas.addEventListener("pointermove", (e) => {
    const at = page.original && stage.pixel(e), after = page.right;
    if (!at) { $("#pixel").textContent = page.about ?? ""; return; }
    const value = (p) => {
      const f = p.factor ?? 1, k = (Math.min(p.height - 1, Math.floor(at[1] / f)) * p.width + Math.min(p.width - 1, Math.floor(at[0] / f)));
      return [...p.data.subarray(k * p.channels, (k + 1) * p.channels)].map((v) => (p.real ? (v / 65535).toFixed(3) : v)).join(" ");
    };
    $("#pixel").textContent = `x ${at[0]}  y ${at[1]}:  ${value(page.original)}${after ? ` → ${value(after)}` : ""}`;
  });
}

async function start() {
  wire();
  page.told = await ask("api/state");
  const { recipe: first, options, folder } = page.told;
  const own = { filters: first.filters, weights: first.weights, params: first.params };
  page.recipes = { A: own, B: copy(own) };
  page.titles = { A: first.name, B: first.name };
  page.saved = { A: first.name, B: first.name };
  page.options = options;
  $("#folder").textContent = folder.split(/[\\/]/).slice(-2).join("/");
  $("#folder").title = folder;
  document.title = `${folder.split(/[\\/]/).at(-1)} - sdie-fast tune`;
  page.controls = new Controls(page.told, { edit, choose });
  const before = kept(), begun = memory();
  if (before && key(before) !== begun) {
    Object.assign(page, before, { saved: {}, undo: [begun] });
  }
  controls();
  heads();
  await list();
  watch();
  setInterval(() => { if (!document.hidden) list().catch(complain); }, 2500);
  page.ready = true;
}

start().catch(complain);
