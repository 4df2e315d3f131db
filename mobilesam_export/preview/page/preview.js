// The preview: two views of one image and one prompt, answered by the program that serves this page.

import { PromptView, acceptImages, acceptUndo, showWeights } from "./view.js";

const element = (id) => document.getElementById(id);
const NAMES = ["bundle", "pytorch"];
const views = NAMES.map((name) => new PromptView(element(name), (prompt) => segment(prompt, name)));
let latest = 0; // number of the latest prompt: answers to earlier ones are not shown
let about = {};

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").className = isError ? "error" : "";
}

/** An answer of the program; what went wrong there as an error with its words. */
async function ask(address, body) {
  const response = await fetch(address, body === undefined ? {} : { method: "POST", body });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function guarded(action) {
  try {
    return await action();
  } catch (error) {
    const lost = error instanceof TypeError; // what fetch throws
    say(lost ? "The program that serves this page has ended: start it again." : error.message, true);
    return null;
  }
}

async function bitmapOf(address) {
  return createImageBitmap(await (await fetch(address)).blob());
}

function title(name, answer = null) {
  const figures = answer ? `: score ${answer.score.toFixed(3)}, ${answer.ms.toFixed(0)} ms` : "";
  element(`${name}-title`).textContent = about[name] + figures;
}

async function setImage(blob) {
  say("Both encode the image…");
  const info = await guarded(() => ask("image", blob));
  if (info) await showImage(info);
}

async function showImage({ width, height, seconds }) {
  latest++;
  const bitmap = await bitmapOf("image");
  for (const view of views) view.setImage(bitmap, width, height);
  for (const name of NAMES) title(name);
  for (const id of ["undo", "clear"]) element(id).disabled = false;
  const times = NAMES.map((name) => `${seconds[name].toFixed(1)} s`).join(" and ");
  say(`Ready: ${width} x ${height}, encoded in ${times}.`);
}

/** Ask for both masks and show them. `refused`: why the prompt after this one was taken back. */
async function segment(prompt, name, refused = "") {
  const number = ++latest;
  const [from, to] = name === NAMES[0] ? views : [...views].reverse();
  to.history = [...from.history];
  to.draw();
  if (!prompt.points.length && !prompt.box) {
    for (const view of views) view.setMask(null);
    for (const each of NAMES) title(each);
    return say(refused || "Click on something, or drag a box around it.", refused !== "");
  }
  const answer = await guarded(() => ask("segment", JSON.stringify(prompt)));
  if (!answer) {
    if (refused) return;
    for (const view of views) view.undo(true);
    // The answer to the prompt before may have come too late to be shown.
    if (number === latest) await segment(from.prompt, name, element("status").textContent);
    return;
  }
  if (number !== latest) return;
  const masks = await Promise.all(NAMES.map((each) => bitmapOf(answer[each].mask)));
  if (number !== latest) return;
  views.forEach((view, i) => view.setMask(masks[i]));
  for (const each of NAMES) title(each, answer[each]);
  say(refused || `IoU of the two masks: ${answer.iou.toFixed(4)}`, refused !== "");
}

async function start() {
  about = (await guarded(() => ask("about"))) ?? {};
  element("title").textContent = about.title;
  if (about.weights) showWeights(element("weights"), about.weights);
  if (about.image) await showImage(about.image);
}

acceptImages(element("file"), setImage);
acceptUndo(element("undo"), () => views[0].history.length && views[0].undo());
element("clear").addEventListener("click", () => {
  views[0].clear();
  segment(views[0].prompt, NAMES[0]);
});
start();
