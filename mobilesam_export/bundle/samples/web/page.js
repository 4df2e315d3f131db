// The page: buttons and words around mobilesam.js and view.js.

import { MobileSAM } from "./mobilesam.js";
import { PromptView, acceptImages, acceptUndo, showWeights } from "./view.js";

const element = (id) => document.getElementById(id);
const BUTTONS = { image: ["undo", "clear"], mask: ["mask", "cutout"], model: ["selftest"] };
const FIRST_IMAGE = new URL("../../golden/landscape/image.png", import.meta.url);

const view = new PromptView(element("canvas"), segment);
let sam = null;
let result = null;
let latest = 0; // number of the latest prompt: answers to earlier ones are not shown

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").className = isError ? "error" : "";
}

function enable(kind, on) {
  for (const id of BUTTONS[kind]) element(id).disabled = !on;
}

function showProgress({ text, loaded, total }) {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  say(total ? `${text}: ${megabytes(loaded)} of ${megabytes(total)} MB` : `${text}…`);
  element("progress").hidden = loaded >= total;
  element("progress").value = total ? loaded / total : 0;
}

/** Run something and say what went wrong in it. */
async function guarded(action) {
  try {
    return await action();
  } catch (error) {
    say(error.message, true);
    return null;
  } finally {
    element("progress").hidden = true;
  }
}

async function setImage(blob) {
  if (!sam) return say("The model is not loaded yet.", true);
  say("Encoding the image…");
  const info = await guarded(() => sam.setImage(blob));
  if (!info) return;
  result = null;
  view.setImage(info.bitmap, info.width, info.height);
  enable("image", true);
  enable("mask", false);
  const { device, threads } = sam.info;
  const where = device === "wasm" ? `wasm, ${threads} thread${threads > 1 ? "s" : ""}` : device;
  say(`Ready: ${info.width} x ${info.height}, encoded in ${(info.ms / 1000).toFixed(1)} s (${where}).`);
}

/** Ask for a mask and show it. `refused`: why the prompt after this one was taken back. */
async function segment(prompt, refused = "") {
  const number = ++latest;
  enable("mask", false);
  result = null;
  if (!prompt.points.length && !prompt.box) {
    view.setMask(null);
    return say(refused || "Click on something, or drag a box around it.", refused !== "");
  }
  try {
    const answer = await sam.segment(prompt);
    if (number !== latest) return;
    result = answer;
    view.setMask(answer.bitmap);
    enable("mask", true);
    const figures = `Score ${answer.score.toFixed(2)}, ${answer.ms.toFixed(0)} ms.`;
    say(refused || figures, refused !== "");
  } catch (error) {
    say(error.message, true);
    if (refused) return;
    view.undo(true);
    // The answer to the prompt before may have come too late to be shown.
    if (number === latest) await segment(view.prompt, error.message);
  }
}

async function save(kind) {
  const blob = await guarded(() => sam.toPng(result.mask, kind));
  if (!blob) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${kind}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function figures({ inputMax, inputMean, psnrDb, iou }) {
  if (iou !== undefined) return `mask IoU ${iou.toFixed(4)}`;
  const input = `input at most ${inputMax}/255 off, ${inputMean.toFixed(3)} on average`;
  return `${input}; embedding ${psnrDb.toFixed(1)} dB`;
}

async function selfTest() {
  enable("model", false);
  enable("image", false);
  enable("mask", false);
  view.setImage(null);
  say("Computing the golden vectors…");
  const checks = await guarded(() => sam.selfTest());
  enable("model", true);
  if (!checks) return;
  const rows = checks.map((check) => {
    const row = document.createElement("tr");
    row.className = check.passed ? "" : "missed";
    for (const text of [check.name, check.passed ? "ok" : "MISSED", figures(check)]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  element("checks").replaceChildren(...rows);
  element("checks").hidden = false;
  const missed = checks.filter((check) => !check.passed).length;
  const verdict = missed ? `${missed} of ${checks.length} missed` : "passed";
  say(`Self-test ${verdict}. Open an image to go on.`, missed > 0);
}

async function start() {
  sam = await guarded(() => MobileSAM.load({ onProgress: showProgress, device: requestedDevice() }));
  if (!sam) return;
  showWeights(element("weights"), sam.info.weights);
  enable("model", true);
  const response = await fetch(FIRST_IMAGE);
  if (response.ok) await setImage(await response.blob());
  else say("Open an image, or drop one here.");
}

/** ?device=wasm or ?device=webgpu at the end of the address. */
const requestedDevice = () => new URLSearchParams(location.search).get("device") ?? "auto";

acceptImages(element("file"), setImage);
acceptUndo(element("undo"), () => view.history.length && view.undo());
element("clear").addEventListener("click", () => {
  view.clear();
  segment(view.prompt);
});
element("mask").addEventListener("click", () => save("mask"));
element("cutout").addEventListener("click", () => save("cutout"));
element("selftest").addEventListener("click", selfTest);
element("stage").addEventListener("click", (event) => {
  if (event.target === element("stage") && view.bitmap) {
    say("That click is outside the image.", true);
  }
});
start();
