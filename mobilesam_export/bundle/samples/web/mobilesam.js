// MobileSAM in a web page: an image once, then a mask for each prompt. All work is done in a worker.
//
//   import { MobileSAM } from "./mobilesam.js";
//   const sam = await MobileSAM.load();
//   await sam.setImage(file);
//   const { mask, width, height, score } = await sam.segment({ points: [{ x: 320, y: 240 }] });
//
// Types: mobilesam.d.ts.

import { MobileSAMError } from "./errors.js";

export { MobileSAMError };

// The smallest module with a vector instruction: i32.const 0; i8x16.splat; drop.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11,
]);

export class MobileSAM {
  #worker;
  #pending = new Map();
  #calls = 0;
  #onProgress;

  constructor(onProgress) {
    this.#onProgress = onProgress;
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => {
      this.#fail(new MobileSAMError("runtime", `The worker stopped: ${event.message ?? "no reason"}.`));
    };
  }

  /** Download (or take from the cache) and load a bundle; see mobilesam.d.ts. */
  static async load({ bundle, runtime, device = "auto", onProgress } = {}) {
    checkBrowser();
    const sam = new MobileSAM(onProgress ?? (() => {}));
    try {
      const root = new URL(bundle ?? "../../", import.meta.url).href;
      sam.info = await sam.#call("load", root, runtime ?? (await findRuntime()), device);
    } catch (error) {
      sam.close();
      throw error;
    }
    return sam;
  }

  /** Run the encoder; all later prompts are about this image. */
  setImage(image) {
    return this.#call("setImage", image);
  }

  /** Run the decoder. */
  segment(prompt) {
    return this.#call("segment", prompt);
  }

  /** Run both once on nothing, so that the first image is as fast as later ones. */
  warmUp() {
    return this.#call("warmUp");
  }

  /** The mask as a black and white PNG, or what is inside it as one with a transparent rest. */
  toPng(mask, kind = "mask") {
    return this.#call("toPng", mask, kind);
  }

  /** Compute the bundle's golden vectors and compare with PyTorch's; forgets the current image. */
  selfTest() {
    return this.#call("selfTest");
  }

  /** End the worker and let go of its memory. */
  close() {
    this.#worker?.terminate();
    this.#worker = null;
    this.#fail(new MobileSAMError("closed", "This MobileSAM is closed."));
  }

  #call(method, ...args) {
    if (!this.#worker) {
      return Promise.reject(new MobileSAMError("closed", "This MobileSAM is closed."));
    }
    return new Promise((resolve, reject) => {
      const id = this.#calls++;
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args });
    });
  }

  #receive({ id, result, error, progress }) {
    if (progress) return this.#onProgress(progress);
    const { resolve, reject } = this.#pending.get(id);
    this.#pending.delete(id);
    if (error) reject(new MobileSAMError(error.code, error.message));
    else resolve(result);
  }

  #fail(error) {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

function checkBrowser() {
  if (location.protocol === "file:") {
    const text = "A page opened as a file cannot load models: run python3 serve.py and open its address.";
    throw new MobileSAMError("unsupported", text);
  }
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    const text = "This browser has no WebAssembly SIMD, which the model needs: use a newer one.";
    throw new MobileSAMError("unsupported", text);
  }
}

/** Where onnxruntime-web is: installed beside this file by npm, or else on a CDN. */
async function findRuntime() {
  const local = new URL("./node_modules/onnxruntime-web/dist/", import.meta.url).href;
  const installed = await fetch(`${local}ort.wasm.min.mjs`, { method: "HEAD" }).catch(() => null);
  if (installed?.ok) return local;
  const listed = await fetch(new URL("./package.json", import.meta.url));
  const { dependencies } = await listed.json();
  return `https://cdn.jsdelivr.net/npm/onnxruntime-web@${dependencies["onnxruntime-web"]}/dist/`;
}
