// The keyboard: everything on the page, without a mouse.

/** Bind the keys; returns their list for the help. */
export function keyboard(page, { actions, step, choose, setView, setAgainst, activate, magnify }) {
  const stage = page.stage;
  const KEYS = [
    ["J, K", "next, previous picture", { j: () => step(1), k: () => step(-1) }],
    ["1, 2, 3", "slider, side by side, difference",
      { 1: () => setView("split"), 2: () => setView("side"), 3: () => setView("difference") }],
    [", .", "move the slider's line",
      { ",": () => stage.slide(stage.split - 0.02), ".": () => stage.slide(stage.split + 0.02) }],
    ["+ - 0 F", "larger, smaller, one to one, whole picture",
      { "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.whole, f: actions.fit }],
    ["Arrows", "on the picture: move it; on a slider: change it", {}],
    ["C, X", "against the other recipe; edit the other recipe",
      { c: () => setAgainst(page.against === "other" ? "original" : "other"),
        x: () => activate(page.active === "A" ? "B" : "A") }],
    ["D", "magnify the difference", { d: magnify }],
    ["M", "mask", { m: actions.mask }],
    ["R, Shift+R", "next, previous round", { r: () => choose(page.round + 1), R: () => choose(page.round - 1) }],
    ["N, Shift+N", "add, remove a round", { n: actions.more, N: actions.less }],
    ["W", "to the first weight; Tab goes on", { w: () => document.querySelector("#filters input").focus() }],
    ["E", "show or hide the parameters of the weight in focus",
      { e: () => document.activeElement.closest(".filter")?.querySelector(".name").click() }],
    ["L, Shift+L", "black and white from the picture; the whole range", { l: actions.auto, L: actions.full }],
    ["Ctrl+Z, Ctrl+Y", "undo, redo", {}],
    ["S, O, P, G", "save, load, code, search",
      { s: actions.save, o: actions.load, p: actions.code, g: actions.search }],
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
    const by = arrow && (arrow[0] + arrow[1] < 0 ? 1 : -1);
    if (by && e.target.closest("#thumbs")) { e.preventDefault(); return step(by); }
    if (by && e.target.closest("#rounds")) { e.preventDefault(); return choose(page.round + by); }
    if (e.target.matches("input[type=range]") && "+-0".includes(e.key)) return;
    if (Object.hasOwn(bound, e.key)) { e.preventDefault(); bound[e.key](); }
  });

  return KEYS;
}
