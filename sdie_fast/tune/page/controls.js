// The panel: rounds, weights and parameters, all made from the filters' own descriptions.

export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "dataset") Object.assign(node.dataset, value); else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** "1 picture", "2 pictures". */
export const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** Set a slider, and how far its track is filled. */
export function setRange(slider, value) {
  slider.value = value;
  const share = (slider.value - slider.min) / (slider.max - slider.min || 1);
  slider.style.setProperty("--fill", `calc(7px + ${share} * (100% - 14px))`);
}

const TICKS = 1000; // of a slider of real numbers

/** How a slider's ticks become a parameter's values: evenly, or by equal factors where the range is wide. */
export function scaleOf(p) {
  if (p.kind === "integer") return { min: p.low, max: p.high, step: p.odd ? 2 : 1, to: Number, from: Number };
  // A range that begins at 0 and is wide grows by the cube: its beginning matters most.
  const log = p.low > 0 && p.high / p.low >= 50, power = p.low === 0 && p.high > 2 ? 3 : 1;
  const least = p.above ? (p.high - p.low) / TICKS ** power : p.low;
  const round = (v) => Math.min(p.high, Math.max(log ? p.low : least, Number(v.toPrecision(3))));
  return {
    min: 0, max: TICKS, step: 1,
    to: (t) => round(log ? p.low * (p.high / p.low) ** (t / TICKS) : p.low + (p.high - p.low) * (t / TICKS) ** power),
    from: (v) => TICKS * (log ? Math.log(v / p.low) / Math.log(p.high / p.low) :
      ((v - p.low) / (p.high - p.low)) ** (1 / power)),
  };
}

export class Controls {
  /**
   * `told`: the filters as the server describes them. `edit(change, done)` applies a change to the recipe; `done` is
   * false while a slider is still being dragged. `choose(round)` shows another round.
   */
  constructor(told, { edit, choose }) {
    Object.assign(this, { told, edit, choose, table: Object.fromEntries(told.filters.map((f) => [f.name, f])) });
    this.open = new Set();
  }

  /** Show a recipe; rows are made anew only where it has other filters. */
  show(recipe, round) {
    Object.assign(this, { recipe, round });
    const toolkit = recipe.filters.join();
    if (toolkit !== this.toolkit) this.build(recipe.filters);
    this.toolkit = toolkit;
    this.rounds();
    document.querySelector("#which").textContent = `round ${round + 1}`;
    const weights = recipe.weights[round], sum = weights.reduce((a, b) => a + b, 0) || 1;
    recipe.filters.forEach((name, k) => {
      const row = this.rows[name];
      setRange(row.slider, weights[k]);
      row.share.textContent = `${Math.round(100 * weights[k] / sum)}%`;
      row.box.classList.toggle("off", !recipe.weights.some((w) => w[k] > 0));
    });
    for (const refresh of this.refreshers) refresh();
  }

  costs(known) {
    for (const name of this.recipe.filters) {
      const seconds = known(name);
      const digits = seconds < 1e-3 ? 2 : seconds < 1e-2 ? 1 : 0;
      this.rows[name].cost.textContent = seconds == null ? "·" : (1e3 * seconds).toFixed(digits);
    }
  }

  rounds() {
    const { recipe, round } = this, focused = document.activeElement?.closest("#rounds");
    document.querySelector("#rounds").replaceChildren(...recipe.weights.map((weights, k) => {
      const sum = weights.reduce((a, b) => a + b, 0) || 1;
      const bar = el("span", { className: "mix" }, ...recipe.filters.map((name, f) => {
        const part = el("i", { title: name });
        part.style.flexGrow = weights[f] / sum;
        part.style.background = this.table[name].colour;
        return part;
      }));
      return el("button", {
        role: "radio", ariaChecked: String(k === round), tabIndex: k === round ? 0 : -1, title: `Round ${k + 1} (R)`,
        onclick: () => this.choose(k),
      }, bar, String(k + 1));
    }));
    if (focused) document.querySelector("#rounds [aria-checked=true]").focus();
    document.querySelector("#less").disabled = recipe.weights.length < 2;
    document.querySelector("#more").disabled = recipe.weights.length >= this.told.most_rounds;
  }

  build(filters) {
    this.rows = {}; this.refreshers = [];
    document.querySelector("#filters").replaceChildren(...filters.map((name) => this.filter(this.table[name])));
    const rest = this.told.filters.filter((f) => !filters.includes(f.name));
    document.querySelector("#others").replaceChildren(...rest.map((f) => el("button", {
      title: `Add to the toolkit: ${f.text}`, textContent: `+ ${f.name}`, onclick: () => this.edit((r) => {
        r.filters.push(f.name);
        r.weights.forEach((w) => w.push(0));
      }, true),
    })));
    const window = { ...this.told.window, sentence: this.told.window.sentence };
    document.querySelector("#common").replaceChildren(this.parameter(window, "window"));
  }

  filter(f) {
    const slider = el("input", { type: "range", min: 0, max: 1, step: 0.005, ariaLabel: `Weight of ${f.name}` });
    slider.dataset.weight = f.name;
    slider.style.setProperty("--own", f.colour);
    const set = (done) => this.edit((r) => {
      r.weights[this.round][r.filters.indexOf(f.name)] = Number(slider.value);
    }, done);
    slider.oninput = () => set(false);
    slider.onchange = () => set(true);
    const share = el("output"), cost = el("span", { className: "cost", title: "Milliseconds of this filter alone" });
    const chip = el("i", { className: "chip" });
    chip.style.background = f.colour;
    const details = el("div", { className: "parameters", hidden: !this.open.has(f.name) },
      el("p", { textContent: f.text }),
      ...f.parameters.map((p) => this.parameter(p, p.name.slice(f.name.length + 1))));
    if (!this.told.toolkit.includes(f.name)) details.append(el("button", {
      textContent: "Take out of the toolkit", onclick: () => this.edit((r) => {
        const at = r.filters.indexOf(f.name);
        r.filters.splice(at, 1);
        r.weights.forEach((w) => { w.splice(at, 1); if (!w.some((v) => v > 0)) w[0] = 1; });
      }, true),
    }));
    const name = el("button", {
      className: "name", title: f.text, ariaExpanded: String(!details.hidden), onclick: () => {
        details.hidden = !details.hidden;
        name.ariaExpanded = String(!details.hidden);
        this.open[details.hidden ? "delete" : "add"](f.name);
      },
    }, chip, f.name);
    const line = el("div", { className: "line" }, name, slider, share, cost);
    const box = el("div", { className: "filter" }, line, details);
    this.rows[f.name] = { slider, share, cost, box };
    return box;
  }

  parameter(p, label) {
    const set = (value, done) => this.edit((r) => { r.params[p.name] = value; }, done);
    const own = () => this.recipe.params[p.name];
    const value = () => own() ?? this.recipe.params.window; // a window of None is the common one
    const reset = el("button", {
      className: "reset", textContent: "↺", title: "Back to the default", ariaLabel: `Default of ${p.name}`,
      onclick: () => set(p.default, true),
    });
    let inputs;
    if (p.kind === "choice") {
      const select = el("select", { ariaLabel: p.name, onchange: () => set(select.value, true) },
        ...p.choices.map((c) => el("option", { value: c, textContent: c })));
      inputs = [select];
      this.refreshers.push(() => { select.value = own(); });
    } else {
      const scale = scaleOf(p), { min, max, step } = scale;
      const slider = el("input", { type: "range", min, max, step, ariaLabel: p.name, title: p.sentence });
      const number = el("input", { type: "number", min: p.low, max: p.high });
      number.step = p.kind === "integer" ? step : "any";
      number.ariaLabel = `${p.name}, typed`;
      slider.dataset.parameter = p.name;
      slider.oninput = () => set(scale.to(Number(slider.value)), false);
      slider.onchange = () => set(scale.to(Number(slider.value)), true);
      number.onchange = () => {
        let typed = Math.min(p.high, Math.max(p.low, Number(number.value)));
        if (p.kind === "integer") typed = p.odd ? 2 * Math.floor(typed / 2) + 1 : Math.round(typed);
        if (p.above && typed <= p.low) typed = scale.to(0);
        set(typed, true);
      };
      inputs = [slider, number];
      this.refreshers.push(() => {
        setRange(slider, scale.from(value()));
        if (number !== document.activeElement) number.value = Number(value().toPrecision(3));
        number.classList.toggle("common", own() == null);
      });
    }
    this.refreshers.push(() => reset.classList.toggle("still", own() === p.default));
    return el("div", { className: "parameter" },
      el("div", { className: "line" }, el("span", { className: "label", textContent: label.replaceAll("_", " ") }),
        ...inputs, reset),
      el("p", { textContent: p.sentence + (p.default === null ? " As the common window unless set." : "") }));
  }
}
