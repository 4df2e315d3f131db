// A canvas that shows an image, a mask and a prompt, and turns clicks and drags into prompts.
//
// Three frames of coordinates: CSS pixels of the page (of events), pixels of the canvas (CSS times
// devicePixelRatio), and pixels of the image, which prompts are in.

const DRAG = 6; // CSS pixels; below that a press and a release are a click
const MASK = "rgba(30, 136, 229, 0.55)";
const DOT = 6; // CSS pixels, radius

export class PromptView {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(prompt: import("./mobilesam.js").Prompt) => void} onPrompt after each click and box.
   */
  constructor(canvas, onPrompt) {
    this.canvas = canvas;
    this.onPrompt = onPrompt;
    this.setImage(null);
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#release(event));
    canvas.addEventListener("pointercancel", () => this.#cancel());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /**
   * @param {CanvasImageSource | null} bitmap what is shown; may be smaller than the image.
   * @param {number} width of the image. @param {number} height of the image.
   */
  setImage(bitmap, width = 0, height = 0) {
    Object.assign(this, { bitmap, width, height, mask: null, layers: {}, drag: null, history: [] });
    if (bitmap) this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.canvas.style.setProperty("--ratio", height ? width / height : 1);
    this.canvas.hidden = !bitmap;
    this.draw();
  }

  /** The latest prompt, in pixels of the image. */
  get prompt() {
    return this.history.at(-1) ?? { points: [], box: null };
  }

  /** @param {CanvasImageSource | null} bitmap opaque where the mask is. */
  setMask(bitmap) {
    this.mask = bitmap;
    this.layers.mask = null;
    this.draw();
  }

  /** Add a click, a box, or both at once. */
  add({ point = null, box = null }) {
    const { points, box: earlier } = this.prompt;
    this.history.push({ points: point ? [...points, point] : points, box: box ?? earlier });
    this.draw();
    this.onPrompt(this.prompt);
  }

  /** Take the latest click or box back; `quiet`: without a new prompt. */
  undo(quiet = false) {
    this.history.pop();
    this.draw();
    if (!quiet) this.onPrompt(this.prompt);
  }

  clear() {
    this.history = [];
    this.setMask(null);
  }

  /** Image and mask are resized once, so that a drag, which draws at each step, only copies them. */
  draw() {
    const { canvas, bitmap, mask, layers } = this;
    if (!bitmap) return;
    const { width, height } = canvas.getBoundingClientRect();
    const density = globalThis.devicePixelRatio || 1;
    const size = [width, height].map((length) => Math.max(1, Math.round(length * density)));
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
      Object.assign(layers, { image: null, mask: null });
    }
    layers.image ??= resized(bitmap, size);
    if (mask) layers.mask ??= tinted(resized(mask, size));
    const context = canvas.getContext("2d");
    context.drawImage(layers.image, 0, 0);
    if (mask) context.drawImage(layers.mask, 0, 0);
    this.#drawPrompt(context, size[0] / this.width, density);
  }

  #drawPrompt(context, scale, density) {
    context.lineWidth = 2 * density;
    for (const box of [this.prompt.box, this.drag?.box].filter(Boolean)) {
      const [x0, y0, x1, y1] = box.map((value) => value * scale);
      context.strokeStyle = "white";
      context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
    for (const { x, y, label } of this.prompt.points) {
      context.beginPath();
      context.arc(x * scale, y * scale, DOT * density, 0, 2 * Math.PI);
      context.fillStyle = label ? "#43a047" : "#e53935";
      context.strokeStyle = "white";
      context.fill();
      context.stroke();
    }
  }

  /** Pixels of the image at an event; a drag that leaves the canvas ends at its edge. */
  #place(event) {
    const rect = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - rect.left) / rect.width) * this.width;
    const y = ((event.clientY - rect.top) / rect.height) * this.height;
    return [Math.min(Math.max(x, 0), this.width), Math.min(Math.max(y, 0), this.height)];
  }

  #press(event) {
    if (event.button !== 0 || !this.bitmap) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = [event.clientX, event.clientY];
    this.drag = { at, from: this.#place(event), box: null };
  }

  #move(event) {
    if (!this.drag) return;
    const [x, y] = this.drag.at;
    if (!this.drag.box && Math.hypot(event.clientX - x, event.clientY - y) < DRAG) return;
    const [a, b] = [this.drag.from, this.#place(event)];
    const [[x0, x1], [y0, y1]] = [0, 1].map((i) => [Math.min(a[i], b[i]), Math.max(a[i], b[i])]);
    this.drag.box = [x0, y0, x1, y1];
    this.draw();
  }

  #release(event) {
    if (!this.drag) return;
    const { box, from } = this.drag;
    this.drag = null;
    if (box) this.add({ box });
    else {
      const background = event.shiftKey || event.altKey;
      this.add({ point: { x: from[0], y: from[1], label: background ? 0 : 1 } });
    }
  }

  #cancel() {
    this.drag = null;
    this.draw();
  }
}

function resized(bitmap, size) {
  const canvas = new OffscreenCanvas(...size);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, ...size);
  return canvas;
}

/** What is opaque, in the mask's color. */
function tinted(canvas) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-in";
  context.fillStyle = MASK;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Say in `place` what to know of weights that are for trials, as the bundle's README does. */
export function showWeights(place, { source, trained }) {
  const demo = "These are the demo weights, which know generated shapes only: expect no useful mask of a photograph.";
  const untrained = "These weights are not trained: masks look like noise.";
  place.textContent = !trained ? untrained : source === "demo" ? demo : "";
  place.hidden = !place.textContent;
}

/** Hand every image file that is dropped on the page or chosen with `input` to `take`. */
export function acceptImages(input, take) {
  const choose = (files) => files.length && take(files[0]);
  input.addEventListener("change", () => choose(input.files));
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", name === "dragover");
      if (name === "drop") choose(event.dataTransfer.files);
    });
  }
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
}

/** Undo with a button and Ctrl+Z or Cmd+Z. */
export function acceptUndo(button, undo) {
  button.addEventListener("click", undo);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    undo();
  });
}
