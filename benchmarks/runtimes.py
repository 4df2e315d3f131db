"""Which versions of which runtimes compute each recipe rightly, refuse it, or compute it wrongly.

`python -m benchmarks.runtimes [--only PACKAGE==VERSION] [--recipe TARGET:RECIPE]` exports each
recipe of the demo weights at 256, makes an environment for each runtime (pip), runs the golden
vectors in it, and writes `benchmarks/results/runtimes.json` and the READMEs' tables. What lies
under build/runtimes/ is not made again; a run with --only or --recipe replaces its own entries.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import readme
from mobilesam_export import prompts
from mobilesam_export.bundle import golden
from mobilesam_export.bundle.manifest import Bundle, open_bundle
from mobilesam_export.target import builtin_targets, load_target

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "runtimes.json"
WORK = ROOT / "build" / "runtimes"
PROBE = Path(__file__).with_name("runtime_probe.py")
TIMEOUT_S = 900
RIGHT, REFUSED, WRONG = "right", "refused", "wrong"


@dataclass(frozen=True)
class Runtime:
    """One package of one version.

    Attributes:
        package: its name on PyPI.
        version: of it.
        kind: how `runtime_probe` opens files with it.
        backend: whose files it reads.
        others: requirements of the time: packages built against numpy 1 do not load with 2, and
            those built against one torch not with another.
    """

    package: str
    version: str
    kind: str
    backend: str
    others: tuple[str, ...] = ("numpy",)

    @property
    def name(self) -> str:
        """As pip takes it."""
        return f"{self.package}=={self.version}"


OLD = ("numpy<2",)
# Versions of ExecuTorch, and the torch that each was built against.
EXECUTORCH = {
    **{"1.0.1": "2.9.*", "1.1.0": "2.10.*", "1.2.0": "2.11.*", "1.3.1": "2.12.*"},
    **dict.fromkeys(("1.4.0", "1.4.1", "1.5.0", "1.5.1"), "2.13.*"),
}
RUNTIMES = (
    *(
        Runtime("executorch", version, "executorch", "executorch", ("numpy", f"torch=={torch}"))
        for version, torch in EXECUTORCH.items()
    ),
    Runtime("tflite-runtime", "2.14.0", "tflite", "tflite", OLD),
    Runtime("ai-edge-litert", "1.0.1", "tflite", "tflite", OLD),
    *(
        Runtime("ai-edge-litert", version, "tflite", "tflite")
        for version in ("1.1.2", "1.2.0", "1.3.0", "1.4.0", "2.0.2", "2.3.0")
    ),
    Runtime("onnxruntime", "1.17.3", "onnxruntime", "onnx", OLD),
    Runtime("onnxruntime", "1.18.1", "onnxruntime", "onnx", OLD),
    *(
        Runtime("onnxruntime", version, "onnxruntime", "onnx")
        for version in ("1.20.1", "1.22.1", "1.23.2", "1.24.1", "1.32.0")
    ),
    *(
        Runtime("opencv-python-headless", version, "opencv", "onnx")
        for version in ("4.14.0.94", "5.0.0.93")
    ),
)
# The package of which a recipe's `runtime` speaks; other packages are in the table only.
CLAIMED = {"ExecuTorch": "executorch", "ONNX Runtime": "onnxruntime", "LiteRT": "ai-edge-litert"}


def export(recipe: str) -> Bundle:
    """A bundle of the demo weights at 256, from an earlier run if it is there.

    Exported without verification: tolerances are those of 1024, and tflite's w8a16 exceeds the one
    of predicted IoU at 256. What counts here is the embedding and the masks of the golden vectors.
    """
    target, _, name = recipe.partition(":")
    folder = WORK / "bundles" / f"{target}-{name}"
    if not folder.exists():
        program = [sys.executable, "-m", "mobilesam_export", target, "-r", name, "-o", str(folder)]
        options = ["-c", "demo", "--image-size", "256", "--no-verify"]
        subprocess.run([*program, *options], check=True, cwd=ROOT)
    return open_bundle(folder)


def prepare(opened: Bundle) -> Path:
    """A folder with the files and the golden vectors of a bundle, for `runtime_probe`."""
    folder = WORK / "cases" / opened.folder.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in opened.graph_files:
        shutil.copyfile(opened.folder / name, folder / name)
    arrays: dict[str, Any] = {}
    plan: dict[str, list[dict[str, Any]]] = {"encoder": [], "decoder": []}
    for graph, inputs, outputs, chosen in vectors(opened):
        case: dict[str, Any] = {"inputs": {}, "outputs": {}, "chosen": chosen}
        for side, values in (("inputs", inputs), ("outputs", outputs)):
            for name, value in values.items():
                arrays[key := f"array_{len(arrays)}"] = value
                case[side][name] = key
        plan[graph].append(case)
    np.savez(folder / "cases.npz", **arrays)
    (folder / "cases.json").write_text(json.dumps(plan))
    return folder


def vectors(opened: Bundle) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any], int]]:
    """Graph, inputs, PyTorch's outputs and index of the chosen mask of every golden vector."""
    for case in golden.read(opened.folder / "golden"):
        inputs = prompts.encoder_inputs(case.image, opened.contract)
        yield "encoder", inputs, {"image_embeddings": case.embeddings}, 0
        size = prompts.height_and_width(case.image)
        for item in case.prompts:
            inputs = prompts.decoder_inputs(item.prompt, case.embeddings, size, opened.contract)
            masks = {"low_res_masks": item.answer.outputs["low_res_masks"]}
            yield "decoder", inputs, masks, item.answer.index


def python_of(runtime: Runtime) -> Path:
    """The Python of an environment with this runtime."""
    folder = WORK / "environments" / runtime.name.replace("==", "-")
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, runtime.name, *runtime.others], check=True)
        ready.touch()
    return python


def run(runtime: Runtime, folder: Path, tolerance: Any) -> dict[str, Any]:  # noqa: ANN401 of the recipe
    """What a runtime makes of a bundle's files."""
    # -P: beside the probe lie modules with the names of runtimes.
    command = [str(python_of(runtime)), "-P", str(PROBE), runtime.kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("PROBE ")]
    if not lines:  # it ended without a word: a crash is no answer that could be wrong
        last = " ".join(done.stderr.split())[-200:]
        return {"verdict": REFUSED, "message": f"exit {done.returncode}: {last}"}
    graphs = json.loads(lines[-1].removeprefix("PROBE "))
    return {"verdict": verdict(graphs, tolerance), **graphs}


def verdict(graphs: Mapping[str, Mapping[str, Any]], tolerance: Any) -> str:  # noqa: ANN401 likewise
    """Right within the recipe's tolerance; a refusal of one file is one of the bundle."""
    encoder, decoder = graphs["encoder"], graphs["decoder"]
    answered = [graph for graph in (encoder, decoder) if "refused" not in graph]
    limits = {
        "embedding_psnr_db": tolerance.embedding_psnr_db,
        "mask_iou": tolerance.mask_iou,
    }
    for graph in answered:
        if any(not value >= limits[key] for key, value in graph.items()):
            return WRONG
    return RIGHT if len(answered) == 2 else REFUSED


def least_version(answers: Mapping[str, Mapping[str, Any]], package: str) -> str:
    """The oldest version of a package from which on every one was right; "" if the newest is not.

    Args:
        answers: by runtime's name.
        package: one of RUNTIMES.
    """
    least = ""
    for runtime in reversed(RUNTIMES):
        if runtime.package != package or runtime.name not in answers:
            continue
        if answers[runtime.name]["verdict"] != RIGHT:
            break
        least = runtime.version
    return least


def all_recipes() -> list[str]:
    """Every recipe that a runtime here reads, as TARGET:RECIPE.

    Recipes with a delegate of their own are for what no package of ExecuTorch here has.
    """
    readable = {runtime.backend for runtime in RUNTIMES}
    targets = [load_target(name) for name in builtin_targets()]
    return [
        f"{target.name}:{name}"
        for target in targets
        for name, recipe in target.recipes.items()
        if target.backend in readable and "delegate" not in recipe.convert
    ]


@click.command()
@click.option("--only", multiple=True, help="Only this runtime, as pip names it.")
@click.option("--recipe", "recipes", multiple=True, help="Only this one, TARGET:RECIPE.")
def main(only: tuple[str, ...], recipes: tuple[str, ...]) -> None:
    """Fill the matrix."""
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    matrix: dict[str, dict[str, Any]] = found.get("recipes", {})
    for recipe in recipes or all_recipes():
        opened = export(recipe)
        folder = prepare(opened)
        for runtime in RUNTIMES:
            if runtime.backend != opened.backend or (only and runtime.name not in only):
                continue
            answer = run(runtime, folder, opened.recipe.tolerance)
            answers = {**matrix.get(recipe, {}), runtime.name: answer}
            order = [item.name for item in RUNTIMES]
            matrix[recipe] = dict(sorted(answers.items(), key=lambda item: order.index(item[0])))
            click.echo(f"{recipe} on {runtime.name}: {answer['verdict']}", err=True)
            RESULT.write_text(json.dumps({"image_size": 256, "recipes": matrix}, indent=2) + "\n")
    readme.main()


if __name__ == "__main__":
    main()
