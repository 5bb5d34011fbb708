// What the stage shows of what the server sent: painted through black and white, as a difference, as a histogram.
import { setRange } from "./controls.js";
import { difference, drawHistogram, histogram, paint, shrink, table } from "./view.js";

const $ = (selector) => document.querySelector(selector);
const key = JSON.stringify;

/** Functions that show a page's pictures. */
export function showing(page) {
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
    const { original, right, left, stage } = page;
    if (!original) return;
    const before = page.against === "other" ? left ?? original : original, after = right ?? original;
    const factor = after.factor ?? 1;
    const sides = { left: { canvas: painted(before), factor: before.factor } };
    sides.right = { canvas: painted(after), factor };
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
    if (!page.original) return drawHistogram($("#histogram"), null, null, 0, 1);
    const count = (p) => p && histogram(p, topOf(p), 128);
    drawHistogram($("#histogram"), count(page.against === "other" ? page.left : page.original), count(page.right),
      page.black, page.white);
    const top = topOf(page.original), text = (v) => (page.original.real ? v.toFixed(3) : String(Math.round(v * top)));
    for (const name of ["black", "white"]) {
      setRange($(`#${name}`), page[name]);
      $(`#${name}-value`).textContent = text(page[name]);
    }
  }

  /** Black and white where all but one in two hundred values lie between. */
  function spread() {
    const counts = histogram(page.original, topOf(page.original), 1000), own = page.right;
    if (own) histogram(own, topOf(own), 1000).forEach((n, k) => { counts[k] += n; });
    const total = counts.reduce((a, b) => a + b);
    const at = (share) => { let sum = 0; return counts.findIndex((n) => (sum += n) >= share * total) / 1000; };
    page.black = Math.max(0, at(0.005) - 0.002);
    page.white = Math.min(1, Math.max(at(0.995) + 0.002, page.black + 0.01));
  }

  return { show, display, spread };
}
