"""Every target and recipe: size, latency against float32, mask IoU against PyTorch, collapse guard.

`python -m benchmarks.recipes [-c CHECKPOINT]` exports each recipe at 1024, asks its files and the
float32 PyTorch model about every object of ten scenes by a click and by a box, times the encoders
that have a runtime here, writes `benchmarks/results/recipes.json` and the READMEs' tables. It is
slow and can be stopped: what is done lies under build/recipes/ and is not done again, unless the
weights, the recipe or the scenes are others (remove the folder after a change of the code).

Accuracy and latency can be had apart: `--no-latency`, and `--latency` for nothing else, which
wants a quiet machine.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import readme, recipe_latency, tables
from mobilesam_export import metrics, prompts
from mobilesam_export.backends import get_backend, reference
from mobilesam_export.bundle import manifest, staging
from mobilesam_export.checkpoint.load import Checkpoint, load_checkpoint
from mobilesam_export.contract import Array, Contract
from mobilesam_export.model import Sam, build_sam
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.scenes import masked_scene
from mobilesam_export.target import Target, builtin_targets, load_target
from mobilesam_export.verification import verify
from mobilesam_export.verification.cases import CLEAR, object_prompts

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "recipes.json"
WORK = ROOT / "build" / "recipes"
FIRST_SEED, SCENES, LEAST_PROMPTS = 30_000, 10, 50  # seeds that nothing is trained or tuned on
KINDS = ("click", "box")
NO_RUNTIME = "no Core ML here: the MIL interpreter runs its programs, and its time says nothing"


@dataclass(frozen=True)
class Question:
    """One object of a scene, asked for in one way, and what PyTorch answers.

    Attributes:
        kind: one of KINDS.
        prompt: in pixels of the scene.
        masks: those that the prompt is answered from: three of one click, else one.
        predicted_ious: what PyTorch expects of them.
    """

    kind: str
    prompt: Prompt
    masks: Array
    predicted_ious: Array


@dataclass(frozen=True)
class Asked:
    """One scene with PyTorch's embedding and answers."""

    image: ImageArray
    embeddings: Array
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Run:
    """What is measured, and where its intermediate results lie."""

    checkpoint: str
    sam: Sam
    side: int
    scenes: int
    folder: Path


def run_of(loaded: Checkpoint, source: str, side: int, scenes: int = SCENES) -> Run:
    """A run whose intermediate results lie where those of the same weights and size do.

    Args:
        loaded: the weights.
        source: that they were loaded from, for the exports.
        side: of the input.
        scenes: how many.
    """
    folder = WORK / f"{loaded.provenance.weights_sha256[:12]}-{side}"
    return Run(source, build_sam(loaded.state_dict, side), side, scenes, folder)


def scene_prompts(number: int, side: int) -> tuple[ImageArray, list[tuple[str, Prompt]]]:
    """A scene that must be resized, and a click and a box for each of its objects."""
    shapes = [(side * 3 // 4, side), (side, side * 2 // 3), (side * 5 // 4, side * 5 // 4)]
    found = masked_scene(FIRST_SEED + number, *shapes[number % len(shapes)])
    return found.image, [
        (kind, object_prompts(mask, 6)[kind]) for mask in found.masks for kind in KINDS
    ]


def reference_answers(run: Run, contract: Contract) -> Iterator[Asked]:
    """PyTorch's answers, kept on disk per form of the images."""
    predictor = reference.load(run.sam, contract)
    for number in range(run.scenes):
        image, asked = scene_prompts(number, run.side)
        size = prompts.height_and_width(image)
        path = run.folder / "reference" / f"all-{contract.form.prompt}-{number}.npz"
        if not path.exists():
            encoded = predictor.embed(image)
            found = [_answers(predictor, prompt, encoded) for _, prompt in asked]
            masks, predicted = (np.concatenate(part) for part in zip(*found, strict=True))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.npz")
            bits, counts = np.packbits(masks, axis=None), [len(ious) for _, ious in found]
            np.savez(
                part, embeddings=encoded.embeddings, masks=bits, predicted=predicted, counts=counts
            )
            part.rename(path)
        with np.load(path) as kept:
            ends = np.cumsum(kept["counts"])
            count = int(ends[-1]) * size[0] * size[1]
            masks = np.unpackbits(kept["masks"], count=count).reshape(-1, *size).astype(bool)
            parts = (np.split(values, ends[:-1]) for values in (masks, kept["predicted"]))
            questions = (Question(*item, *part) for item, *part in zip(asked, *parts, strict=True))
            yield Asked(image, kept["embeddings"], tuple(questions))


def _answers(predictor: Predictor, prompt: Prompt, image: EmbeddedImage) -> tuple[Array, Array]:
    """The masks that one is chosen from, (masks, height, width), and their predicted IoU."""
    outputs = predictor.decode(prompt, image)
    answer = predictor.answer(prompt, outputs, image.size)
    if predictor.contract.dynamic or not prompt.single_click:
        return answer.mask[None], outputs["iou_predictions"][0, :1]
    masks = [predictor.mask(outputs, index, image.size) for index in (1, 2, 3)]
    return np.array(masks), outputs["iou_predictions"][0, 1:]


def exported(run: Run, target: Target, recipe: str) -> Path:
    """The bundle of one recipe, exported without verification, as that is done here at length."""
    folder = run.folder / f"{target.name}-{recipe}"
    mark = folder.with_suffix(".key")
    _, settings = target.recipe(recipe)
    described = json.dumps(
        [asdict(settings), dict(target.convert), asdict(target.graph)], default=str
    )
    if not (folder.exists() and mark.exists() and mark.read_text() == described):
        command = [sys.executable, "-m", "mobilesam_export", target.name, "-r", recipe]
        command += ["-c", run.checkpoint, "--image-size", str(run.side), "-o", str(folder)]
        subprocess.run([*command, "--no-verify"], check=True, cwd=ROOT)
        mark.write_text(described)
    return folder


def accuracy(run: Run, folder: Path) -> dict[str, Any]:
    """Mask IoU with PyTorch and the collapse guard of one bundle."""
    return accuracy_of(run, manifest.open_bundle(folder).predictor())


def accuracy_of(run: Run, predictor: Predictor) -> dict[str, Any]:
    """The same of graphs on any runtime."""
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    ties = 0
    found: list[Array] = []
    expected: list[Array] = []
    for asked in reference_answers(run, predictor.contract):
        embeddings, flipped = ask(predictor, asked, ious)
        ties += flipped
        found.append(np.asarray(embeddings, np.float32))
        expected.append(asked.embeddings)
    psnr = [metrics.psnr_db(a, b) for a, b in zip(found, expected, strict=True)]
    return {
        "runtime": predictor.encoder.runtime,
        "prompts": sum(len(values) for values in ious.values()),
        "scenes": len(found),
        "embedding_psnr_db_min": min(round(min(psnr), 2), 999.0),
        "ties_flipped": ties,
        "mask_iou": {kind: summary(values) for kind, values in ious.items()},
        "collapse_guard": guard(found, expected),
    }


def ask(predictor: Predictor, asked: Asked, ious: dict[str, list[float]]) -> tuple[Array, int]:
    """Put every question.

    Returns:
        The embedding, and how often another mask was chosen than by PyTorch, which itself rates
        both nearly the same; it is compared with the same one then, as in `verify`.
    """
    image, ties = predictor.embed(asked.image), 0
    for question in asked.questions:
        answer = predictor.predict(question.prompt, image)
        predicted, place = question.predicted_ious, int(np.argmax(question.predicted_ious))
        chosen = answer.index - 1 if len(predicted) > 1 else place
        if chosen != place and predicted[place] - predicted[chosen] < CLEAR:
            ties, place = ties + 1, chosen
        ious[question.kind].append(metrics.mask_iou(answer.mask, question.masks[place]))
    return image.embeddings, ties


def summary(values: list[float]) -> dict[str, float]:
    """Mean, tenth percentile and worst."""
    return {
        "mean": round(float(np.mean(values)), 5),
        "p10": round(float(np.percentile(values, 10)), 5),
        "min": round(min(values), 5),
    }


def guard(found: list[Array], expected: list[Array]) -> str:
    """The rules of `verify` on every image and every pair of neighbours: "passed" or why not."""
    low, high = verify.GUARD_LOW, verify.GUARD_HIGH
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        if not (np.isfinite(a).all() and low <= a.std() / b.std() <= high):
            return f"failed: scene {number}"
    for number in range(1, len(found)):
        distance = float(np.abs(found[number] - found[number - 1]).mean())
        right = float(np.abs(expected[number] - expected[number - 1]).mean())
        if not distance >= low * right:
            return f"failed: scenes {number - 1} and {number}"
    return "passed"


def measure(run: Run, only: str) -> dict[str, dict[str, Any]]:
    """Accuracy and size of every recipe, or of those whose target:recipe starts with `only`."""
    rows = {}
    for name in builtin_targets():
        target = load_target(name)
        for recipe in target.recipes:
            label = f"{name}:{recipe}"
            if not label.startswith(only):
                continue
            click.echo(label, err=True)
            rows[label] = measured(run, target, recipe)
    return rows


def written_files(folder: Path) -> dict[str, Any]:
    """A bundle's files by name, with bytes and hash, as its manifest has them."""
    files: dict[str, Any] = json.loads((folder / staging.MANIFEST).read_text())["files"]
    return files


def part_bytes(files: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of encoder and decoder, each a file or a folder with more below it."""
    return {
        part: sum(e["bytes"] for file, e in files.items() if file.partition(".")[0] == part)
        for part in ("encoder", "decoder")
    }


def measured(run: Run, target: Target, recipe: str) -> dict[str, Any]:
    """One recipe's row, kept on disk with the hashes of the files that it is about."""
    folder = exported(run, target, recipe)
    files = written_files(folder)
    key = hashlib.sha256(json.dumps([files, run.scenes]).encode()).hexdigest()
    kept = run.folder / f"{target.name}-{recipe}.json"
    if kept.exists() and (row := json.loads(kept.read_text()))["key"] == key:
        return dict(row)
    why = get_backend(target.backend).why_unavailable()
    row = {
        "key": key,
        "default": recipe == target.default_recipe,
        "bytes": part_bytes(files),
        **({"unverified": why} if why else accuracy(run, folder)),
    }
    kept.write_text(json.dumps(row, indent=2) + "\n")
    return row


@click.command()
@click.option("-c", "--checkpoint", default="demo", show_default=True)
@click.option("--only", default="", help="target or target:recipe; what is kept stays.")
@click.option("--image-size", "side", default=1024, show_default=True)
@click.option("--scenes", default=SCENES, show_default=True)
@click.option("--latency/--no-latency", default=True, help="Time encoders that can run here.")
@click.option("--accuracy/--no-accuracy", "accurate", default=True)
def main(checkpoint: str, only: str, side: int, scenes: int, latency: bool, accurate: bool) -> None:
    """Measure, write the JSON, render the READMEs again, print the table."""
    loaded = load_checkpoint(checkpoint)
    weights = loaded.provenance.weights_sha256
    run = run_of(loaded, checkpoint, side, scenes)
    result: dict[str, Any] = {"recipes": {}, "latency": {}}
    if RESULT.exists() and (old := json.loads(RESULT.read_text())).get("weights") == weights:
        result = old
    result |= {
        "checkpoint": loaded.provenance.source,
        "weights": weights,
        "image_size": side,
        "coreml_latency": NO_RUNTIME,
    }
    if accurate:
        result["recipes"] |= measure(run, only)
    if latency:
        folders = {
            f"{name}:{recipe}": exported(run, load_target(name), recipe)
            for name in builtin_targets()
            for recipe in load_target(name).recipes
            if f"{name}:{recipe}".startswith(only) or recipe == "float32"
            if recipe_latency.can_time(load_target(name), recipe)
        }
        result["latency"] |= recipe_latency.measure(folders)
    asked = [row.get("prompts", LEAST_PROMPTS) for row in result["recipes"].values()]
    if min(asked, default=LEAST_PROMPTS) < LEAST_PROMPTS:
        click.echo(f"fewer than {LEAST_PROMPTS} prompts: {asked}", err=True)
    order = [f"{n}:{r}" for n in builtin_targets() for r in load_target(n).recipes]
    result["recipes"] = {k: result["recipes"][k] for k in order if k in result["recipes"]}
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2) + "\n")
    part.rename(RESULT)
    readme.main()
    click.echo(tables.recipes())


if __name__ == "__main__":
    main()
