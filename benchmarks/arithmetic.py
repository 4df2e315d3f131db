"""What the arithmetic of chips makes of the files: pessimistic float16, Core AI, and ARM kernels.

    python -m benchmarks.arithmetic float16      exports of targets that compute in float16
    python -m benchmarks.arithmetic coreai       files of `coreai` by Apple's runtime, in float16
                                                 or `--recipe`; needs `pip install ".[coreai]"`
    python -m benchmarks.arithmetic arm          every recipe of ONNX and TFLite; needs `make arm`
    python -m benchmarks.arithmetic heads        every recipe, channels of attention out of balance

Weights are the demo weights and others that compute the same function in larger values, by the
rules of `tests.stress_weights`. Each row is what the installed program says (`--json`), but for
those of Core AI, which are held to PyTorch here. Rows are appended to
`benchmarks/results/arithmetic.json` as they are measured, and one that is there for the same
weights, target, recipe, size and processor is replaced.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks import coreai
from benchmarks.tables import RESULTS, replace_row
from mobilesam_export.checkpoint.load import load_checkpoint
from mobilesam_export.target import load_target
from tests.stress_weights import Weights, scale_heads, scale_neck, scale_streams

RESULT = RESULTS / "arithmetic.json"
Family = dict[str, Callable[[Weights], Weights]]
DEMO: Family = {"demo": dict}
WEIGHTS: Family = DEMO | {
    "neck=200": partial(scale_neck, scale=200),
    "stream=64": partial(scale_streams, scale=64),
    "neck=200 stream=64": lambda weights: scale_neck(scale_streams(weights, 64), 200),
}
HEADS: Family = {f"heads=1.0:{seed}": partial(scale_heads, sigma=1.0, seed=seed) for seed in (0, 1)}
FLOAT16 = (("coreml", "float16"), ("tflite-gpu", "float16"), ("onnx", "float16"))
EMULATED = ("onnx", "tflite")


def main() -> None:
    """Measure, and write down row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("float16", "coreai", "arm", "heads"))
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--only", default="", help="a TARGET or TARGET:RECIPE")
    parser.add_argument("--weights", default="", help="only these, such as neck=200")
    parser.add_argument("--recipe", default="float16", help="for coreai: of that target")
    parser.add_argument(
        "--bundles", type=Path, help="for arm: bundles TARGET-RECIPE of the demo weights, not again"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(arguments, Path(folder)):
            print(json.dumps(row), flush=True)
            write(row)


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Each export of this kind, measured."""
    kind, image_size, only = arguments.kind, arguments.image_size, arguments.only
    families = {"float16": WEIGHTS, "coreai": WEIGHTS, "arm": DEMO, "heads": DEMO | HEADS}
    targets = FLOAT16 if kind == "float16" else every_recipe(kind)
    for name, rule in families[kind].items():
        if arguments.weights not in ("", name):
            continue
        if kind == "coreai":
            yield coreai_row(name, rule(demo_weights()), image_size, arguments.recipe)
            continue
        checkpoint = folder / "weights.safetensors"
        write_checkpoint(rule(demo_weights()), checkpoint)
        measured = emulated if kind == "arm" else exported
        for target, recipe in targets:
            if f"{target}:{recipe}:".startswith(only and f"{only}:"):
                key = {"weights": name, "target": target, "recipe": recipe, "size": image_size}
                bundle = (arguments.bundles or folder) / f"{target}-{recipe}"
                yield from measured(key, checkpoint, bundle)
                shutil.rmtree(folder / bundle.name, ignore_errors=True)


def exported(key: dict[str, Any], checkpoint: Path, bundle: Path) -> Iterator[dict[str, Any]]:
    """The figures of an export."""
    yield key | figures(ask(*export_arguments(key, checkpoint, bundle))["verification"])


def emulated(key: dict[str, Any], checkpoint: Path, bundle: Path) -> Iterator[dict[str, Any]]:
    """The figures of a bundle's files here, and by ARM builds on each processor model.

    Exported without verification, so that files that break a limit are there to be measured.
    """
    if not bundle.exists():
        ask(*export_arguments(key, checkpoint, bundle), "--no-verify")
    report = ask("verify", bundle, "-c", checkpoint, "--arm")
    yield key | figures(report["verification"])
    for model, found in report["arm"].items():
        yield key | {"processor": model} | figures(found)


def export_arguments(key: dict[str, Any], checkpoint: Path, bundle: Path) -> list[object]:
    """The command line that exports the bundle of a row, by its recipe as it stands."""
    options = ["-r", key["recipe"], "--image-size", key["size"], "--no-fit", "-o", bundle]
    return [key["target"], "-c", checkpoint, *options]


def coreai_row(name: str, weights: Weights, image_size: int, recipe: str) -> dict[str, Any]:
    """Files of the target `coreai`, run by Core AI."""
    key = {"target": "coreai", "recipe": recipe, "size": image_size, "processor": "Core AI"}
    report = coreai.verified(weights, image_size, recipe).as_dict()
    return {"weights": name} | key | figures(report)


def every_recipe(kind: str) -> list[tuple[str, str]]:
    """All recipes that can be emulated, or all of the targets that apps ship."""
    names = EMULATED if kind == "arm" else (*EMULATED, "coreml", "tflite-gpu")
    return [(name, recipe) for name in names for recipe in load_target(name).recipes]


def demo_weights() -> Weights:
    """The demo weights by name."""
    return dict(load_checkpoint("demo").state_dict)


def write_checkpoint(weights: Weights, path: Path) -> None:
    """Write weights by name as a .safetensors file, which takes no views."""
    save_file({name: value.contiguous() for name, value in weights.items()}, path)


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """The worst of a report, and what pessimistic float16 makes of the same graphs."""
    return {
        "status": report["status"],
        "runtime": report["runtime"],
        "embedding_psnr_db": min(item["psnr_db"] for item in report["embeddings"]),
        "embedding_max_abs_error": max(item["max_abs_error"] for item in report["embeddings"]),
        "mask_iou": min(item["mask_iou"] for item in report["prompts"]),
        "logits_max_abs_error": max(item["logits_max_abs_error"] for item in report["prompts"]),
        "decoder_logits_max_abs_error": max(
            item["decoder_logits_max_abs_error"] for item in report["prompts"]
        ),
        "float16": report["float16"],
    }


def ask(*arguments: object) -> dict[str, Any]:
    """The JSON that the program prints, whether or not a file failed."""
    command = [sys.executable, "-m", "mobilesam_export", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"{' '.join(command[3:])} failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(row: dict[str, Any]) -> None:
    """Put a row in the place of the same one."""
    replace_row(RESULT, row, ("weights", "target", "recipe", "size", "processor"))


if __name__ == "__main__":
    main()
