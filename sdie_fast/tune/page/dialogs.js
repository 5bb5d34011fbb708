// The dialogs: save, load, the same in code, search, help.
import { el, many } from "./controls.js";
import { ask } from "./server.js";

const $ = (selector) => document.querySelector(selector);

/** Wire the dialogs; returns what opens each. */
export function dialogs(page, { question, heads, adopt, filed, origin, keep, complain, tell }) {
  const recipe = () => page.recipes[page.active];

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

  const saving = $("#save-dialog form").elements;
  /** Ask whether the recipe of a name is to be replaced; null: it is not asked. */
  function replacing(name) {
    page.replace = name;
    saving.ok.textContent = name === null ? "Save" : "Replace";
    $("#save-dialog .error").hidden = name === null;
    if (name !== null) $("#save-dialog .error").textContent = `There is a recipe ${name}. Replace it?`;
  }
  saving.name.oninput = () => replacing(null);
  $("#save-dialog form").onsubmit = async (event) => {
    event.preventDefault();
    const box = $("#save-dialog"), name = saving.name.value.trim(), own = question(recipe());
    const body = { ...own, name, notes: saving.notes.value, seen: [...page.seen], replace: page.replace === name };
    try {
      const found = await ask("api/save", body);
      filed(name, { ...own.recipe, note: found.note });
      page.names[page.active] = name;
      keep();
      heads();
      box.close();
      tell(`Saved: ${found.file}`);
    } catch (error) { if (error.message.includes("is taken")) replacing(name); else wrong(box, error); }
  };

  /** About how long a search takes, once Mask has shown what a segmentation does. */
  function estimate() {
    const { calls, grid } = $("#search-dialog form").elements, { segmenting } = page;
    const seconds = segmenting * calls.value * (grid.value / 12) ** 2;
    $("#estimate").textContent = !segmenting ? "" :
      `About ${seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`}, by what Mask took. `;
  }
  $("#search-dialog form").oninput = estimate;

  async function watch() {
    clearTimeout(page.watching);
    const box = $("#search-dialog");
    try {
      const told = await ask("api/search"), percent = (v) => (100 * v).toFixed(1), running = told.state === "running";
      $("#progress").value = told.total ? Math.min(1, told.done / told.total) : 0;
      const left = told.done > 0 ? Math.round(told.seconds / told.done * (told.total - told.done)) : null;
      const scores = told.best === undefined ? "" : `FB-IoU ${percent(told.alone)} of the pictures as they came, ` +
        `${percent(told.start)} by the recipe as it was, ${percent(told.best)} by the best found.`;
      const verdict = told.best > told.start ? (told.best > told.alone ? "" :
        "The best is still no better than the pictures as they came.") :
        running ? "" : "Nothing better was found.";
      $("#found").textContent = told.state === "none" ? "" : told.error ?? [
        running ? `${told.done} of ${told.total}` + (left === null ? "." : `, ${left} s left.`) :
          told.state === "done" ? "Done." : "Cancelled.", scores, verdict].join(" ");
      $("#searched").textContent = told.names ? `On ${many(told.pictures, "picture")}: ${told.names.join(", ")}.` : "";
      page.best = told.best > told.start ? told.recipe : null;
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
    try {
      const names = ["each", "calls", "size", "grid"];
      const effort = Object.fromEntries(names.map((name) => [name, Number(form[name].value)]));
      await ask("api/search", question(recipe(), effort));
      dialog("search");
      watch();
    } catch (error) { wrong(box, error); }
  };
  $("#stop").onclick = () => ask("api/cancel", {}).then(() => setTimeout(watch, 300)).catch(complain);
  $("#take").onclick = () => {
    adopt(page.active, null, page.best);
    $("#search-dialog").close();
  };

  for (const b of document.querySelectorAll("dialog [value=cancel]")) b.onclick = () => b.closest("dialog").close();
  for (const b of document.querySelectorAll("[data-copy]")) b.onclick = async () => {
    try { await navigator.clipboard.writeText($(`#${b.dataset.copy}`).textContent); b.textContent = "Copied"; }
    catch { getSelection().selectAllChildren($(`#${b.dataset.copy}`)); b.textContent = "Selected"; }
    setTimeout(() => { b.textContent = "Copy"; }, 1500);
  };

  return {
    save() {
      dialog("save");
      replacing(null);
      const { title, note } = origin();
      saving.name.value = page.names[page.active] || (title === "default" ? "" : title ?? "");
      saving.notes.value = note ?? "";
      $("#place").textContent = `In ${page.told.recipes}, with a note of the ` +
        (page.seen.size === 1 ? "picture looked at." : `${page.seen.size} pictures looked at.`);
    },
    async load() {
      const box = dialog("load");
      try {
        const known = await ask("api/recipes");
        $("#known").replaceChildren(...known.map((r) => el("button", {
          type: "button", disabled: !!r.error, async onclick() {
            try {
              const found = await ask("api/load", { name: r.name, picture: page.name });
              filed(r.name, found, r.name || r.title);
              adopt(page.active, r.name, found);
              box.close();
            } catch (error) { wrong(box, error); }
          },
        }, el("b", { textContent: r.name || r.title }), el("small", {
          textContent: r.error ?? `${many(r.rounds, "round")}${r.kind === "fixed" ? "" : `, ${r.kind}`}`,
        }), el("p", { textContent: r.notes ?? "" }))));
      } catch (error) { wrong(box, error); }
    },
    async code() {
      const box = dialog("code");
      try {
        const saved = origin().same ? page.names[page.active] : null;
        const found = await ask("api/code", question(recipe(), { saved }));
        for (const name of ["python", "command"]) $(`#${name}`).textContent = found[name];
      } catch (error) { wrong(box, error); }
    },
    search() {
      const labelled = page.pictures.filter((p) => p.mask).length;
      dialog("search");
      $("#labelled").textContent = labelled ? `of the ${labelled} with a mask, at most` : "with a mask, at most";
      $("#no-masks").hidden = labelled > 0;
      $("#begin").disabled = !labelled;
      estimate();
      watch();
    },
    help() { dialog("help"); },
    watch,
  };
}
