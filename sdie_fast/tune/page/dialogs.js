// The dialogs: save, load, the same in code, search, help.
import { el } from "./controls.js";
import { ask } from "./server.js";

const $ = (selector) => document.querySelector(selector);

/** Wire the dialogs; returns what opens each. */
export function dialogs(page, { question, heads, adopt, keep, complain }) {
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
        running ? `${told.done} of ${told.total} on ${told.pictures} pictures` +
          (left === null ? "." : `, ${left} s left.`) :
          told.state === "done" ? "Done." : "Cancelled.", scores,
        !running && !(told.best > told.start) ? "Nothing better was found." : ""].join(" ");
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
    adopt(page.active, { ...page.best, name: "search" });
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
      const box = dialog("save");
      if (!box.querySelector("[name=name]").value && page.titles[page.active] !== "default")
        box.querySelector("[name=name]").value = page.titles[page.active];
      $("#place").textContent = `In ${page.told.recipes}, with a note of the ${page.seen.size} picture(s) looked at.`;
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
          textContent: r.error ?? `${r.rounds} round(s)${r.kind === "fixed" ? "" : `, ${r.kind}`}`,
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
    watch,
  };
}
