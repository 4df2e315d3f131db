// The worker behind mobilesam.js: loads the model, decodes images, runs encoder and decoder.

import { MobileSAMError } from "./errors.js";
import { BundleFiles } from "./files.js";
import * as geometry from "./geometry.js";
import { checkGolden } from "./golden.js";

const DISPLAY = 2048; // pixels of the longest side of what is shown
const THREADS = 4; // more do not help the encoder
const SETTINGS = { imageOrientation: "from-image", colorSpaceConversion: "none" };

class Model {
  /** Download what every image and prompt needs, and load it on a device. */
  static async open(files, runtime, device) {
    const model = new Model();
    const { contract } = files.manifest;
    const [, height, width] = contract.encoder.inputs[0].shape;
    Object.assign(model, { files, device, input: { width, height }, slots: contract.points });
    model.ort = await loadRuntime(runtime, device);
    const names = contract.prepare ? ["encoder", "prepare", "decoder_prepared"] : ["encoder", "decoder"];
    const total = names.reduce((sum, name) => sum + (files.entries[`${name}.onnx`]?.bytes ?? 0), 0);
    let before = 0;
    for (const name of names) {
      const report = (loaded) => progress("Downloading the model", before + loaded, total);
      const bytes = await files.read(`${name}.onnx`, report);
      before += bytes.length;
      progress("Loading the model", before, total);
      model[name] = await model.session(`${name}.onnx`, bytes);
    }
    return model;
  }

  release() {
    const { encoder, decoder, prepare, decoder_prepared } = this;
    return Promise.all([encoder, decoder, prepare, decoder_prepared].map((file) => file?.release()));
  }

  async session(name, bytes) {
    try {
      return await this.ort.InferenceSession.create(bytes, { executionProviders: [this.device] });
    } catch (error) {
      const text = `ONNX Runtime cannot load ${name}: ${firstLine(error)}`;
      throw new MobileSAMError("runtime", text);
    }
  }

  forgetImage() {
    this.forgetEmbeddings();
    this.image?.close();
    this.image = null;
  }

  forgetEmbeddings() {
    const { embeddings, prepared } = this;
    for (const tensor of Object.values({ embeddings, ...prepared })) tensor?.dispose();
    Object.assign(this, { embeddings: null, prepared: null });
  }

  async setImage(image) {
    const start = performance.now();
    const bitmap = await decode(image);
    const { width, height } = bitmap;
    await this.encode(this.preprocess(bitmap));
    this.image?.close();
    Object.assign(this, { image: bitmap, width, height });
    const ms = performance.now() - start;
    const shown = await createImageBitmap(bitmap, displaySize(width, height));
    return { width, height, bitmap: shown, ms };
  }

  preprocess(bitmap) {
    return geometry.preprocess(readPixels(bitmap), bitmap.width, bitmap.height, this.input);
  }

  async encode(pixels) {
    const { width, height } = this.input;
    const image = new this.ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const outputs = await this.encoder.run({ image });
    const prepared = await this.prepare?.run(outputs);
    this.forgetEmbeddings();
    Object.assign(this, { embeddings: outputs.image_embeddings, prepared });
  }

  /** Both files once on nothing; an image that has been encoded has done it already. */
  async warmUp() {
    if (this.embeddings) return;
    const { width, height } = this.input;
    Object.assign(this, { width, height });
    await this.encode(new Uint8Array(width * height * 3));
    await this.decode({ points: [{ x: 0, y: 0 }] });
    this.forgetImage();
  }

  async segment(prompt) {
    if (!this.embeddings) throw new MobileSAMError("no-image", "Choose an image first.");
    const start = performance.now();
    const { width, height, input } = this;
    const { logits, score } = await this.decode(prompt);
    const mask = geometry.upscaledMask(logits, width, height, input);
    const bitmap = await maskBitmap(mask, width, height);
    return { mask, width, height, score, logits, bitmap, ms: performance.now() - start };
  }

  async decode(prompt) {
    const { ort, input, slots } = this;
    const { coords, labels } = geometry.slots(prompt, this.width, this.height, input, slots);
    const area = (input.height / 4) * (input.width / 4);
    const asked = {
      point_coords: new ort.Tensor("float32", coords, [1, slots, 2]),
      point_labels: new ort.Tensor("float32", labels, [1, slots]),
    };
    const outputs =
      this.prepared && !prompt.previousMask
        ? await this.decoder_prepared.run({ ...this.prepared, ...asked })
        : await this.decodeWithMask(asked, prompt.previousMask);
    const scores = outputs.iou_predictions.data;
    const index = geometry.chosenMask(prompt, scores);
    const logits = outputs.low_res_masks.data.slice(index * area, (index + 1) * area);
    return { logits, score: scores[index] };
  }

  /** The decoder itself; beside `decoder_prepared` it is downloaded when a mask first asks for it. */
  async decodeWithMask(asked, previousMask) {
    const { ort, input, files } = this;
    const [rows, columns] = [input.height / 4, input.width / 4];
    const earlier = previousMask ?? new Float32Array(rows * columns);
    if (earlier.length !== rows * columns) {
      throw new MobileSAMError("bad-prompt", `previousMask has ${earlier.length} values.`);
    }
    this.decoder ??= await this.session("decoder.onnx", await files.read("decoder.onnx"));
    return this.decoder.run({
      image_embeddings: this.embeddings,
      ...asked,
      mask_input: new ort.Tensor("float32", earlier, [1, 1, rows, columns]),
      has_mask_input: new ort.Tensor("float32", [previousMask ? 1 : 0], [1]),
    });
  }

  async toPng(mask, kind) {
    if (!this.image) throw new MobileSAMError("no-image", "Choose an image first.");
    const { width, height } = this;
    const rgba = kind === "cutout" ? readPixels(this.image) : new Uint8ClampedArray(mask.length * 4);
    for (let i = 0; i < mask.length; i++) {
      if (kind === "cutout") rgba[i * 4 + 3] = mask[i] * 255;
      else rgba.fill(mask[i] * 255, i * 4, i * 4 + 3).fill(255, i * 4 + 3, i * 4 + 4);
    }
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }
}

/** onnxruntime-web's module for a device; with threads where the page is isolated. */
async function loadRuntime(base, device) {
  progress(`Loading onnxruntime-web from ${new URL(base).host}`);
  try {
    const ort = await import(`${base}ort.${device}.min.mjs`);
    ort.env.wasm.wasmPaths = base;
    ort.env.wasm.numThreads = threads();
    return ort;
  } catch (error) {
    const text = `onnxruntime-web cannot be loaded from ${base}: ${firstLine(error)}`;
    throw new MobileSAMError("missing-file", `${text} (offline? run npm install beside the page)`);
  }
}

const threads = () =>
  globalThis.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency) : 1;

/** WebGPU where there is a real GPU that answers golden rightly, if "auto"; otherwise wasm. */
async function openOnBest(files, runtime, device) {
  if (device !== "auto") return Model.open(files, runtime, device);
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter && !(adapter.info ?? adapter).isFallbackAdapter) {
    let model = null;
    try {
      model = await Model.open(files, runtime, "webgpu");
      progress("Checking the GPU");
      const checks = await checkGolden(model, 1);
      model.forgetImage();
      if (checks.every((check) => check.passed)) return model;
    } catch (error) {
      if (error.code === "damaged-file" || error.code === "missing-file") throw error;
    }
    await model?.release();
  }
  return Model.open(files, runtime, "wasm");
}

async function decode(image) {
  if (image instanceof ImageBitmap) return image;
  try {
    return await createImageBitmap(image, SETTINGS);
  } catch {
    const text = "That is not an image that this browser can read: use a JPEG, PNG or WebP.";
    throw new MobileSAMError("bad-image", text);
  }
}

/** RGBA; transparent pixels on white, as a viewer shows them. */
function readPixels(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

function displaySize(width, height) {
  const factor = Math.min(1, DISPLAY / Math.max(width, height));
  return {
    resizeWidth: Math.max(1, Math.round(width * factor)),
    resizeHeight: Math.max(1, Math.round(height * factor)),
  };
}

async function maskBitmap(mask, width, height) {
  const { resizeWidth: columns, resizeHeight: rows } = displaySize(width, height);
  const image = new ImageData(columns, rows);
  const values = new Uint32Array(image.data.buffer);
  for (let y = 0, i = 0; y < rows; y++) {
    const row = Math.floor(((y + 0.5) * height) / rows) * width;
    for (let x = 0; x < columns; x++, i++) {
      if (mask[row + Math.floor(((x + 0.5) * width) / columns)]) values[i] = 0xffffffff;
    }
  }
  return createImageBitmap(image);
}

const firstLine = (error) => String(error?.message ?? error).split("\n")[0];
/** What goes on; with bytes where they are counted. */
const progress = (text, loaded = 0, total = 0) => postMessage({ progress: { text, loaded, total } });

let model = null;

const methods = {
  async load(root, runtime, device) {
    const files = await BundleFiles.open(root);
    model = await openOnBest(files, runtime, device);
    const { target, recipe, checkpoint } = files.manifest;
    const weights = { source: checkpoint.source, trained: checkpoint.trained };
    const about = { target, recipe: recipe.name, slots: model.slots, weights };
    return { device: model.device, threads: threads(), ...about };
  },
  setImage: (image) => model.setImage(image),
  segment: (prompt) => model.segment(prompt),
  warmUp: () => model.warmUp(),
  toPng: (mask, kind) => model.toPng(mask, kind),
  async selfTest() {
    const checks = await checkGolden(model);
    model.forgetImage();
    return checks;
  },
};

async function answer({ id, method, args }) {
  try {
    const result = await methods[method](...args);
    const { mask, logits, bitmap } = result ?? {};
    const moved = [mask?.buffer, logits?.buffer, bitmap].filter(Boolean);
    postMessage({ id, result }, moved);
  } catch (error) {
    const { code = "runtime" } = error;
    postMessage({ id, error: { code, message: firstLine(error) } });
  }
}

let queue = Promise.resolve();
onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};
