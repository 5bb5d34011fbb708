// The stage: two pictures on one canvas, split, side by side or as their difference, zoomed and panned in step.

/** One channel value of a picture as the screen's 0 to 255: a table for all values between black and white. */
export function table(top, black, white) {
  const lut = new Uint8Array(top + 1), span = Math.max(white - black, 1e-6);
  for (let v = 0; v <= top; v++) lut[v] = Math.max(0, Math.min(255, Math.round(255 * (v / top - black) / span)));
  return lut;
}

function canvasOf(width, height, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), data = context.createImageData(width, height);
  fill(new Uint32Array(data.data.buffer));
  context.putImageData(data, 0, 0);
  return canvas;
}

const OPAQUE = 0xff000000;

/** Paint a picture { width, height, channels, data } through a table. */
export function paint(picture, lut) {
  const { data, channels } = picture;
  return canvasOf(picture.width, picture.height, (out) => {
    if (channels === 1) for (let i = 0; i < out.length; i++) out[i] = OPAQUE | lut[data[i]] * 0x010101;
    else for (let i = 0, k = 0; i < out.length; i++, k += 3)
      out[i] = OPAQUE | lut[data[k + 2]] << 16 | lut[data[k + 1]] << 8 | lut[data[k]];
  });
}

/** Means of squares, so that a preview is compared with a picture of its size. */
export function shrink(picture, factor) {
  if (factor === 1) return picture;
  const { data, channels } = picture;
  const width = Math.floor(picture.width / factor), height = Math.floor(picture.height / factor);
  const out = new data.constructor(width * height * channels);
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++, at++) {
    let sum = 0;
    for (let dy = 0; dy < factor; dy++) for (let dx = 0; dx < factor; dx++)
      sum += data[((y * factor + dy) * picture.width + x * factor + dx) * channels + c];
    out[at] = Math.round(sum / (factor * factor));
  }
  return { ...picture, width, height, data: out };
}

/** Right minus left about a middle grey, magnified. */
export function difference(left, right, top, gain) {
  const scale = 255 * gain / top, { data, channels } = right;
  const level = (k) => Math.max(0, Math.min(255, Math.round(128 + scale * (data[k] - left.data[k]))));
  return canvasOf(right.width, right.height, (out) => {
    if (channels === 1) for (let i = 0; i < out.length; i++) out[i] = OPAQUE | level(i) * 0x010101;
    else for (let i = 0, k = 0; i < out.length; i++, k += 3)
      out[i] = OPAQUE | level(k + 2) << 16 | level(k + 1) << 8 | level(k);
  });
}

/** A mask over a picture: what was found in red, the outline of the truth in white and black. */
export function paintMask(mask) {
  const { data, width, height } = mask;
  const truth = (x, y) => x >= 0 && y >= 0 && x < width && y < height && (data[y * width + x] & 2) > 0;
  return canvasOf(width, height, (out) => {
    for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) {
      const around = [truth(x - 1, y), truth(x + 1, y), truth(x, y - 1), truth(x, y + 1)];
      if (truth(x, y) && !around.every(Boolean)) out[i] = 0xffffffff;
      else if (!truth(x, y) && around.some(Boolean)) out[i] = OPAQUE; // black beside white: seen on any ground
      else out[i] = data[i] & 1 ? 0x73283cff : 0;
    }
  });
}

/** Counts of values in so many bins. */
export function histogram(picture, top, bins) {
  const counts = new Uint32Array(bins), { data } = picture, step = Math.max(1, Math.floor(data.length / 400000));
  for (let i = 0; i < data.length; i += step) counts[Math.min(bins - 1, Math.floor(data[i] * bins / (top + 1)))]++;
  return counts;
}

export function drawHistogram(canvas, left, right, black, white) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.fillStyle = "#ffffff0c";
  context.fillRect(black * width, 0, Math.max(1, (white - black) * width), height);
  const most = Math.max(1, ...[left, right].filter(Boolean).flatMap((c) => [...c].sort((a, b) => b - a)[2]));
  const trace = (counts) => {
    context.beginPath();
    context.moveTo(0, height);
    counts.forEach((n, k) => context.lineTo((k + 0.5) * width / counts.length,
      height - 1 - Math.min(1, Math.sqrt(n / most)) * (height - 6)));
    context.lineTo(width, height);
  };
  if (left) { trace(left); context.fillStyle = "#8a8f98"; context.fill(); }
  if (right) { trace(right); context.strokeStyle = "#6fb3ff"; context.lineWidth = 2.5; context.stroke(); }
}

export class Stage {
  constructor(canvas, changed) {
    Object.assign(this, { canvas, changed, view: "split", split: 0.5, scale: 1, x: 0, y: 0, fitted: true });
    Object.assign(this, { width: 1, height: 1, sides: {}, masks: {} });
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), ...this.place(e));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => this.grab(e));
    canvas.addEventListener("pointermove", (e) => this.drag(e));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { this.held = null; });
    canvas.addEventListener("dblclick", () => this.fit());
  }

  get paneWidth() { return this.view === "side" ? (this.canvas.clientWidth - 4) / 2 : this.canvas.clientWidth; }

  resize() {
    const ratio = window.devicePixelRatio || 1, { clientWidth, clientHeight } = this.canvas.parentElement;
    this.canvas.width = Math.round(clientWidth * ratio); this.canvas.height = Math.round(clientHeight * ratio);
    if (this.fitted) this.fit(); else this.draw();
  }

  /** Where the pointer is in its pane. */
  place(e) {
    const box = this.canvas.getBoundingClientRect(), x = e.clientX - box.left;
    return [this.view === "side" && x > this.paneWidth ? x - this.paneWidth - 4 : x, e.clientY - box.top];
  }

  /** Which pixel of the picture is under the pointer; null beside it. */
  pixel(e) {
    const [px, py] = this.place(e);
    const x = Math.floor((px - this.x) / this.scale), y = Math.floor((py - this.y) / this.scale);
    return x >= 0 && y >= 0 && x < this.width && y < this.height ? [x, y] : null;
  }

  grab(e) {
    this.canvas.setPointerCapture(e.pointerId);
    const [x, y] = this.place(e);
    const line = this.view === "split" && Math.abs(x - this.split * this.paneWidth) < 14;
    this.held = { line, x: x - this.x, y: y - this.y };
  }

  drag(e) {
    const [x, y] = this.place(e);
    const near = this.view === "split" && Math.abs(x - this.split * this.paneWidth) < 14;
    this.canvas.style.cursor = this.held ? (this.held.line ? "ew-resize" : "grabbing") : near ? "ew-resize" : "grab";
    if (!this.held) return;
    if (this.held.line) return this.slide(x / this.paneWidth);
    Object.assign(this, { x: x - this.held.x, y: y - this.held.y, fitted: false });
    this.draw();
  }

  slide(share) { this.split = Math.max(0, Math.min(1, share)); this.draw(); }

  pan(dx, dy) { this.x += dx; this.y += dy; this.fitted = false; this.draw(); }

  zoom(by, px = this.paneWidth / 2, py = this.canvas.clientHeight / 2) {
    const scale = Math.max(0.02, Math.min(64, Number((this.scale * by).toPrecision(9))));
    this.x = px - (px - this.x) * scale / this.scale;
    this.y = py - (py - this.y) * scale / this.scale;
    Object.assign(this, { scale, fitted: false });
    this.draw();
  }

  fit() {
    const w = this.paneWidth, h = this.canvas.clientHeight;
    this.scale = Math.max(0.001, Math.min(16, Math.min((w - 24) / this.width, (h - 24) / this.height)));
    this.x = (w - this.width * this.scale) / 2; this.y = (h - this.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  /** Show pictures of so many pixels; the place stays where it is if the size does. */
  size(width, height) {
    const same = width === this.width && height === this.height;
    Object.assign(this, { width, height });
    if (!same || this.fitted) this.fit();
  }

  draw() {
    const { canvas, view, sides, masks } = this, context = canvas.getContext("2d");
    const ratio = canvas.width / Math.max(1, canvas.clientWidth), pane = this.paneWidth, h = canvas.clientHeight;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, h);
    const side = (name, from, to, begin) => {
      context.save();
      context.beginPath();
      context.rect(from, 0, Math.max(0, to - from), h);
      context.clip();
      context.translate(begin + this.x, this.y);
      for (const [picture, smooth] of [[sides[name], this.scale < 2], [masks[name], true]]) {
        if (!picture) continue;
        context.imageSmoothingEnabled = smooth || (picture.factor ?? 1) > 1;
        context.imageSmoothingQuality = "medium";
        const factor = picture.factor ?? 1;
        context.drawImage(picture.canvas, 0, 0, picture.canvas.width * factor * this.scale,
          picture.canvas.height * factor * this.scale);
      }
      context.restore();
    };
    if (view === "side") {
      side("left", 0, pane, 0);
      side("right", pane + 4, canvas.clientWidth, pane + 4);
      context.fillStyle = "#101113";
      context.fillRect(pane, 0, 4, h);
    } else if (view === "split" && sides.left) {
      const at = this.split * pane;
      side("right", at, pane, 0);
      side("left", 0, at, 0);
      context.fillStyle = "#ffffffd0";
      context.fillRect(at - 1, 0, 2, h);
      context.beginPath();
      context.arc(at, h / 2, 13, 0, 7);
      context.fill();
      context.fillStyle = "#25272b";
      for (const way of [-1, 1]) {
        context.beginPath();
        context.moveTo(at + way * 8, h / 2);
        context.lineTo(at + way * 3, h / 2 - 5);
        context.lineTo(at + way * 3, h / 2 + 5);
        context.fill();
      }
    } else side("difference", 0, pane, 0);
    this.changed(this);
  }
}
