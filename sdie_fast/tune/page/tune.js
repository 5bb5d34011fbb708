// The page: which recipe, which picture, what is asked of the server and when.
import { Controls, el, many } from "./controls.js";
import { dialogs } from "./dialogs.js";
import { folder } from "./folder.js";
import { bare, keeping } from "./kept.js";
import { keyboard } from "./keys.js";
import { ask } from "./server.js";
import { showing } from "./sides.js";
import { Stage, paintMask } from "./view.js";

const $ = (selector) => document.querySelector(selector);
const copy = (value) => JSON.parse(JSON.stringify(value));
const IN_TIME = 45; // milliseconds from a change to the screen that a preview aims at
const AT_LEAST = 15; // of them, whatever the size: there and back, and the screen's next frame
const SMALL = 2 ** 17; // pixels that are always enhanced as they are
const RESTING = 160, IDLE = 450; // milliseconds without a change, before the whole picture, and before all else

const page = {
  told: null, pictures: [], name: null, original: null, right: null, left: null, masks: {},
  recipes: null, active: "A", round: 0, against: "original", showMask: false, options: {},
  black: 0, white: 1, seen: new Set(), undo: [], redo: [], costs: new Map(),
  // What A and B came of: a name of `files`, which are recipes as they lie there ("" is the first); null: of none.
  names: { A: "", B: "" }, files: {},
  pace: 4e-5, latency: [], dirty: null, busy: false, turn: 0, sent: 0,
};
window.tune = page; // for tests, and the curious

const recipe = () => page.recipes[page.active];
const other = () => (page.active === "A" ? "B" : "A");
const key = JSON.stringify;

const question = (own, rest = {}) => ({ name: page.name, recipe: own, options: page.options, ...rest });

function complain(error, good = false) {
  const message = $("#message");
  message.hidden = !error;
  message.classList.toggle("good", good);
  message.textContent = error ? error.message ?? String(error) : "";
}
/** Say that something went well, until the next change. */
const tell = (text) => complain(text, true);

const stage = new Stage($("#canvas"), (s) => {
  $("#zoom").textContent = page.original ? `${Math.round(100 * s.scale)}%` : "";
});
page.stage = stage;
const { filed, origin, memory, keep, resume } = keeping(page);
const { show, display, spread } = showing(page);
const { list, step } = folder(page, { complain, show, display, heads, touch, compare, spread });

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
  controls();
  heads();
  touch();
}

function recall(text) {
  Object.assign(page, JSON.parse(text));
  page.round = Math.min(page.round, recipe().weights.length - 1);
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
  if (pixels < SMALL) return 1;
  const most = Math.max(1, Math.floor(Math.min(page.original.width, page.original.height) / 256));
  return Math.min(most, [1, 2, 3, 4, 6].find((f) => AT_LEAST + pixels * page.pace / (f * f) <= IN_TIME) ?? 8);
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
      Object.assign(page, { right: found, masks: { ...page.masks, right: null } }); // which was of another picture
      if (page.spread) spread();
      page.spread = false;
      show();
      complain();
      $("#iou").classList.add("old");
      if (found.factor === 1) figures(found);
      await shown();
      // What a pixel costs, the way to the screen included; a slower answer counts for more than a quicker one.
      const pace = Math.max(1, performance.now() - sent - AT_LEAST) / (found.width * found.height);
      page.pace += (pace > page.pace ? 0.5 : 0.25) * (pace - page.pace);
      page.latency.push({ ms: performance.now() - begin, factor: found.factor });
      page.latency = page.latency.slice(-500);
      display();
      const ms = page.latency.at(-1).ms;
      $("#answer").textContent = `preview in ${ms.toFixed(0)} ms${found.factor > 1 ? `, 1/${found.factor}` : ""}`;
    }
  } catch (error) { complain(error); }
  page.busy = false;
  if (page.dirty !== null) return pump();
  clearTimeout(page.resting);
  page.resting = setTimeout(rest, page.right?.factor > 1 ? RESTING : 0);
}

/** The whole picture, later masks and what everything costs; whatever changes meanwhile goes first. */
async function rest() {
  const turn = page.turn, name = page.name, stale = () => turn !== page.turn || name !== page.name;
  try {
    if (page.right?.factor > 1) {
      const found = await ask("api/enhance", question(recipe()));
      if (stale()) return;
      page.right = found;
      show();
      display();
      figures(found);
    }
  } catch (error) { if (!stale()) complain(error); }
  if (stale()) return;
  clearTimeout(page.idling);
  page.idling = setTimeout(async () => {
    try { await segment(stale); } catch (error) { if (!stale()) complain(error); }
    if (!stale()) measure(stale);
  }, IDLE);
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
    page.segmenting = found.seconds;
    page.masks[side] = { canvas: paintMask(found), factor, facts: found };
    told.push(found.iou === undefined ? found.quality.toFixed(2) : (100 * found.iou).toFixed(1));
    $("#iou").classList.toggle("old", side === "left");
    $("#iou").textContent = `${found.iou === undefined ? "predicted IoU" : "IoU"} ${told.join(" → ")}`;
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
    if (own === recipe()) figures({ ...page.original, ...page.costs.get(id) });
    page.controls.costs(known);
  }
}

/** Tell what the whole picture took: once at first, then as the median of a few. */
function figures({ seconds, width, height, rate = width * height / seconds }) {
  const n = recipe().weights.length, ms = 1e3 * seconds, per = 1 / seconds;
  const digits = (v) => v.toFixed(v < 1 ? 2 : v < 10 ? 1 : 0);
  $("#time").textContent = `${digits(ms / n)} ms a round · ${digits(ms)} ms in all`;
  $("#rate").textContent = `${digits(rate / 1e6)} Mpx/s · ${digits(per)} pictures/s`;
  $("#rate").title = `Sustained on ${many(page.told.threads, "thread")}, backend ${page.told.backend}`;
}

// ---- heads, dialogs, keys

function heads() {
  const { title, same } = origin();
  $("#title").textContent = title === undefined ? "not saved" : title + (same ? "" : " (edited)");
  const after = `recipe ${page.active}`, before = page.against === "other" ? `recipe ${other()}` : "picture";
  const diff = stage.view === "difference";
  $("#left").textContent = diff ? `${after} − ${before}` : before;
  $("#right").textContent = diff ? "" : after;
  $("#undo").disabled = !page.undo.length;
  $("#redo").disabled = !page.redo.length;
  $("#gain").hidden = !diff;
  $("#about").textContent = page.about ?? "";
  for (const [id, value] of [["active", page.active], ["view", stage.view]])
    for (const b of document.querySelectorAll(`#${id} button`)) {
      b.setAttribute("role", "radio");
      b.setAttribute("aria-checked", String(b.dataset.value === value));
    }
  $("#against").value = page.against;
  $("#mask").setAttribute("aria-pressed", String(page.showMask));
  const { original, options } = page, bits = original && Math.ceil(Math.log2(original.max + 1));
  $("#white-level").value = options.white_level ?? "";
  $("#guess").hidden = !original || options.white_level || original.white_level || bits > 14;
  $("#guess").textContent = `${bits} bits? Use ${2 ** bits - 1}`;
  $("#guess").onclick = () => setOption("white_level", 2 ** bits - 1);
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
function setMask(on) {
  page.showMask = on;
  heads();
  show();
  if (on) touch(); else $("#iou").textContent = "";
}
function setOption(name, value) {
  Object.assign(page, { options: { ...page.options, [name]: value }, masks: {}, spread: page.original?.bytes === 2 });
  keep();
  heads();
  touch();
  compare();
}
function level(black, white) { page.black = black; page.white = white; show(); display(); }

function addRound() {
  if (recipe().weights.length >= page.told.most_rounds) return;
  const at = page.round;
  edit((r) => { r.weights.splice(at + 1, 0, copy(r.weights[at])); page.round++; });
}
function removeRound() {
  if (recipe().weights.length < 2) return;
  const at = page.round;
  edit((r) => { r.weights.splice(at, 1); page.round = Math.min(at, r.weights.length - 1); });
}
function choose(k) { page.round = Math.max(0, Math.min(recipe().weights.length - 1, k)); controls(); }

/** Take a recipe that was loaded by a name, or with null found. */
function adopt(letter, name, found) {
  page.undo.push(memory());
  page.redo = [];
  page.recipes[letter] = bare(found);
  page.names[letter] = name;
  page.round = 0;
  activate(letter);
}

const actions = {
  undo: () => travel("undo", "redo"),
  redo: () => travel("redo", "undo"),
  ...dialogs(page, { question, heads, adopt, filed, origin, keep, complain, tell }),
  in: () => stage.zoom(1.25), out: () => stage.zoom(0.8), fit: () => stage.fit(),
  whole: () => stage.zoom(1 / stage.scale),
  mask: () => setMask(!page.showMask),
  more: addRound, less: removeRound,
  auto() { if (page.original) { spread(); show(); display(); } },
  full: () => level(0, 1),
};

function magnify() {
  const gain = $("#gain");
  gain.selectedIndex = (gain.selectedIndex + 1) % 3;
  show();
}

// ---- the beginning

function wire() {
  for (const [name, act] of Object.entries(actions)) $(`#${name}`)?.addEventListener("click", () => act());
  $("#active").onclick = (e) => { if (e.target.dataset.value) activate(e.target.dataset.value); };
  $("#view").onclick = (e) => { if (e.target.dataset.value) setView(e.target.dataset.value); };
  $("#against").onchange = (e) => setAgainst(e.target.value);
  $("#gain").onchange = show;
  $("#black").oninput = (e) => level(Math.min(Number(e.target.value), page.white - 0.005), page.white);
  $("#white").oninput = (e) => level(page.black, Math.max(Number(e.target.value), page.black + 0.005));
  $("#white-level").onchange = (e) => setOption("white_level", e.target.value ? Number(e.target.value) : null);
  $("#per-channel").onchange = (e) => setOption("per_channel", e.target.checked);
  const KEYS = keyboard(page, { actions, step, choose, setView, setAgainst, activate, magnify });
  $("#keys").replaceChildren(...KEYS.flatMap(([keys, text]) =>
    [el("dt", { textContent: keys }), el("dd", { textContent: text })]));
  stage.canvas.addEventListener("pointermove", (e) => {
    const at = page.original && stage.pixel(e), after = page.right;
    $("#pixel").textContent = "";
    if (!at) return;
    const value = (p) => {
      const [x, y] = at.map((v) => Math.floor(v / (p.factor ?? 1)));
      const k = (Math.min(p.height - 1, y) * p.width + Math.min(p.width - 1, x)) * p.channels;
      return [...p.data.subarray(k, k + p.channels)].map((v) => (p.real ? (v / 65535).toFixed(3) : v)).join(" ");
    };
    $("#pixel").textContent = `x ${at[0]}  y ${at[1]}:  ${value(page.original)}${after ? ` → ${value(after)}` : ""}`;
  });
}

async function start() {
  wire();
  page.told = await ask("api/state");
  const { recipe: first, options, folder: root } = page.told;
  page.recipes = { A: copy(bare(first)), B: copy(bare(first)) };
  page.options = options;
  $("#folder").textContent = root.split(/[\\/]/).slice(-2).join("/");
  $("#folder").title = root;
  document.title = `${root.split(/[\\/]/).at(-1)} - sdie-fast tune`;
  page.controls = new Controls(page.told, { edit, choose });
  resume();
  controls();
  heads();
  await list();
  actions.watch();
  setInterval(() => { if (!document.hidden) list().catch(complain); }, 2500);
  page.ready = true;
}

start().catch(complain);
