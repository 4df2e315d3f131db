// The golden vectors of the bundle, computed by the model and compared with PyTorch's.

import * as geometry from "./geometry.js";

// A browser's JPEG decoder may differ from PyTorch's side by more than resizing does.
const INPUT_MAX = 8;
const INPUT_MEAN = 0.5;

/**
 * @param model of worker.js; its image is forgotten.
 * @param {number} count of images.
 * @returns {Promise<import("./mobilesam.js").Check[]>}
 */
export async function checkGolden(model, count = Infinity) {
  const { files } = model;
  const text = new TextDecoder().decode(await files.read("golden/golden.json"));
  const checks = [];
  for (const image of JSON.parse(text).images.slice(0, count)) {
    checks.push(await checkImage(model, image));
    for (const prompt of image.prompts) {
      checks.push({ name: `${image.name}/${prompt.name}`, ...(await checkPrompt(model, prompt)) });
    }
  }
  return checks;
}

/** The encoder on the golden input alone; then the image, decoded and resized by the browser. */
async function checkImage(model, image) {
  const { files, input } = model;
  const blob = new Blob([await files.read(`golden/${image.file}`)]);
  const expected = await files.tensor(image.encoder.inputs[0]);
  await model.encode(expected.slice());
  const embeddings = await files.tensor(image.encoder.outputs[0]);
  const psnrDb = psnr(await model.embeddings.getData(), embeddings);
  await model.setImage(blob);
  const pixels = model.preprocess(model.image);
  let max = 0;
  let sum = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(pixels[i] - expected[i]);
    max = Math.max(max, difference);
    sum += difference;
  }
  const { limits } = files.manifest;
  const inputMean = sum / (input.width * input.height * 3);
  const passed = psnrDb >= limits.encoder.psnr_db && max <= INPUT_MAX && inputMean <= INPUT_MEAN;
  return { name: image.name, inputMax: max, inputMean, psnrDb, passed };
}

async function checkPrompt(model, prompt) {
  const { files, width, height, input } = model;
  const earlier = prompt.inputs.find((item) => item.name === "mask_input");
  const { logits } = await model.decode({
    points: prompt.points.map(([x, y, label]) => ({ x, y, label })),
    box: prompt.box,
    previousMask: earlier ? await files.tensor(earlier) : null,
  });
  const mask = geometry.upscaledMask(logits, width, height, input);
  const expected = await readMask(new Blob([await files.read(`golden/${prompt.mask}`)]));
  let both = 0;
  let either = 0;
  for (let i = 0; i < mask.length; i++) {
    const inside = expected[i * 4] > 0;
    both += mask[i] && inside ? 1 : 0;
    either += mask[i] || inside ? 1 : 0;
  }
  const iou = either ? both / either : 1;
  return { iou, passed: iou >= files.manifest.limits.mask.iou };
}

async function readMask(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

/** 10 log10(peak^2 / mean squared error), the peak being PyTorch's largest absolute value. */
function psnr(found, expected) {
  let error = 0;
  let peak = 0;
  for (let i = 0; i < expected.length; i++) {
    error += (found[i] - expected[i]) ** 2;
    peak = Math.max(peak, Math.abs(expected[i]));
  }
  return 10 * Math.log10(peak ** 2 / (error / expected.length));
}
