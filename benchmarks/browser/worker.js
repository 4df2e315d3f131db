// One runtime and its files, in a worker as in the web sample; benchmarks/web.py says what to do.
// A classic worker: LiteRT.js loads its WebAssembly by importScripts, which modules do not have.
//
// A tensor is described by { file, dtype, shape }.
// A loaded file is a function from inputs by name to outputs by name, both typed arrays.

const ARRAYS = { float32: Float32Array, uint8: Uint8Array };
const MODULES = new URL("./node_modules/", location.href).href;
const files = new Map();
let open = null;

async function onnxRuntime(threads) {
  const dist = `${MODULES}onnxruntime-web/dist/`;
  const ort = await import(`${dist}ort.wasm.min.mjs`);
  ort.env.wasm.wasmPaths = dist;
  ort.env.wasm.numThreads = threads;
  return async (address, options) => {
    const session = await ort.InferenceSession.create(address, {
      executionProviders: ["wasm"],
      ...options,
    });
    return async (inputs) => {
      const given = mapped(inputs, ({ dtype, values, shape }) => new ort.Tensor(dtype, values, shape));
      return mapped(await session.run(given), (tensor) => tensor.data);
    };
  };
}

async function liteRt(threads) {
  const { loadLiteRt, loadAndCompile, Tensor } = await import(`${MODULES}litert.js`);
  const wasm = `${MODULES}@litertjs/core/wasm/`;
  // Its loader looks beside this worker's script for its other files, and for that of its threads.
  const mainScriptUrlOrBlob = `${wasm}litert_wasm_threaded_internal.js`;
  self.Module = { locateFile: (file) => wasm + file, mainScriptUrlOrBlob };
  await loadLiteRt(wasm, { threads: threads > 1 });
  const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
  return async (address) => {
    const model = await loadAndCompile(address, options);
    return async (inputs) => {
      const given = mapped(inputs, ({ values, shape }) => new Tensor(values, shape));
      const outputs = await model.run(given);
      const found = mapped(outputs, (tensor) => tensor.toTypedArray());
      for (const tensor of [...Object.values(given), ...Object.values(outputs)]) tensor.delete();
      return found;
    };
  };
}

const mapped = (values, change) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value, name)]));

async function fetched({ file, dtype, shape }) {
  const buffer = await (await fetch(file)).arrayBuffer();
  return { dtype, shape, values: new ARRAYS[dtype](buffer) };
}

async function all(tensors) {
  const names = Object.keys(tensors);
  const values = await Promise.all(names.map((name) => fetched(tensors[name])));
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

/** Largest and root mean square difference. */
function difference(found, { values }) {
  if (found?.length !== values.length) throw new Error("an output is missing, or of another size");
  let [max, sum] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const error = Math.abs(found[i] - values[i]);
    if (!(error <= max)) max = error; // also NaN
    sum += error ** 2;
  }
  return { max, rms: Math.sqrt(sum / values.length) };
}

const methods = {
  async start(runtime, threads) {
    open ??= await { "onnxruntime-web": onnxRuntime, "LiteRT.js": liteRt }[runtime](threads);
  },
  /** Load a file, run it once, and say how far each output is from what is expected. */
  async load(name, address, inputs, outputs, options = {}) {
    const file = { run: await open(address, options), inputs: await all(inputs) };
    files.set(name, file);
    const found = await file.run(file.inputs);
    const expected = await all(outputs);
    return mapped(expected, (tensor, key) => difference(found[key], tensor));
  },
  /** Milliseconds from typed arrays to typed arrays. */
  async run(name) {
    const { run, inputs } = files.get(name);
    const start = performance.now();
    await run(inputs);
    return performance.now() - start;
  },
};

onmessage = async ({ data: { method, args } }) => {
  try {
    postMessage({ result: await methods[method](...args) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error).split("\n")[0] });
  }
};
