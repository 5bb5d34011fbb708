// What recipes A and B came of, and what outlives a closed browser.

const key = JSON.stringify;
const shares = (r) => r.weights.flatMap((row) => row.map((w) => w / row.reduce((a, b) => a + b, 0)));

/** A recipe without what is said about it. */
export const bare = ({ filters, weights, params }) => ({ filters, weights, params });

/** Functions that remember a page's recipes, and where they lie. */
export function keeping(page) {
  /** Note how a recipe lies in its file. */
  function filed(name, found, title = name) {
    page.files[name] = { title, note: found.note, recipe: JSON.parse(key(bare(found))) };
  }

  /** The file that the recipe being edited came of, and `same`: whether it still is what lies there. */
  function origin() {
    const name = page.names[page.active], own = page.recipes[page.active];
    const file = name === null ? undefined : page.files[name];
    const rest = (r) => key([r.filters, r.params, r.weights.length]);
    const before = file && rest(file.recipe) === rest(own) ? shares(file.recipe) : null;
    return { ...file, same: !!before && shares(own).every((v, k) => Math.abs(v - before[k]) < 1e-5) };
  }

  const memory = () => key({ recipes: page.recipes, active: page.active, names: page.names, round: page.round });

  // Until the command names another recipe to begin with.
  const place = () => `sdie-fast tune: ${page.told.folder} ${key(page.told.recipe.weights)}`;
  function keep() {
    const { files, options, told } = page;
    const all = key({ memory: memory(), files, options, given: told.options });
    try { localStorage.setItem(place(), all); } catch { /* private windows may have none */ }
  }

  /** Go on where the browser was closed. */
  function resume() {
    let before = null;
    try { before = JSON.parse(localStorage.getItem(place())); } catch { /* as above */ }
    const begun = memory();
    if (before) {
      page.files = before.files;
      if (key(before.given) === key(page.told.options)) page.options = before.options; // else the command says another
      if (before.memory !== begun) Object.assign(page, JSON.parse(before.memory), { undo: [begun] });
    }
    filed("", page.told.recipe, page.told.recipe.name);
  }

  return { filed, origin, memory, keep, resume };
}
