// The folder: its thumbnails, which follow what happens there, and the picture that is open.
import { el } from "./controls.js";
import { ask } from "./server.js";

const $ = (selector) => document.querySelector(selector);
const key = JSON.stringify;

/** Functions that list the folder's pictures and step through them. */
export function folder(page, { complain, show, display, heads, touch, compare, spread }) {
  const { stage } = page;

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
      const about = { title: p.name, dataset: { id, name: p.name }, onclick: () => open(p.name) };
      return thumbs.get(id) ?? el("button", about,
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
    Object.assign(page, { name, original: null, right: null, left: null, masks: {} });
    page.turn++;
    for (const id of ["pixel", "iou", "time", "rate", "answer"]) $(`#${id}`).textContent = "";
    complain();
    mark();
    try {
      const found = await ask(`api/picture?${new URLSearchParams({ name })}`);
      if (page.name !== name) return;
      page.original = found;
      page.seen.add(name);
      $("#level").hidden = found.bytes === 1 || !!found.real;
      $("#colour").hidden = found.channels === 1;
      stage.size(found.width, found.height);
      page.spread = found.bytes === 2;
      if (page.spread) spread(); else { page.black = 0; page.white = 1; }
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
      page.about = "";
      stage.sides = {}; stage.masks = {};
      stage.draw();
      display();
      complain(error);
      heads();
    }
  }

  function step(by) {
    const at = page.pictures.findIndex((p) => p.name === page.name);
    const next = page.pictures[Math.max(0, Math.min(page.pictures.length - 1, at + by))];
    if (next && next.name !== page.name) open(next.name);
  }

  return { list, step };
}
