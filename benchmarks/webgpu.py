"""LiteRT's GPU runtime: does it take a bundle's files whole, and are its answers the CPU's?

`python -m benchmarks.webgpu BUNDLE [--save]` needs a GPU, or a software Vulkan that Dawn accepts:
SwiftShader does (Debian's chromium-common has it; name its JSON in VK_ICD_FILENAMES), Mesa's
lavapipe 22.3 does not, for want of shaderSampledImageArrayDynamicIndexing. On a software Vulkan
without float16 the delegate computes in float32, so what float16 costs is not in it.

Each file is compiled and run in a process of its own, whose native log says what was refused.
"""

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from mobilesam_export import prompts
from mobilesam_export.backends.tflite import backend as tflite
from mobilesam_export.bundle import manifest
from mobilesam_export.contract import Array
from mobilesam_export.prompts import Prompt
from mobilesam_export.scenes import scene

RESULT = Path(__file__).parent / "results" / "webgpu.json"
SEED = 30_000  # of a scene that nothing is trained or tuned on
ADAPTER = re.compile(r"Selected adapter: (.*?), arch=.*backend=(\w+)")
REFUSED = re.compile(r"^([A-Z0-9_]+): .*", re.MULTILINE)
TIMEOUT_S = 1800


def run_on_gpu(path: Path, inputs: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Any]]:
    """What the GPU answers, and what the log says of it.

    Raises:
        click.ClickException: there is no GPU, or it does not take the file whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(given, **inputs)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "benchmarks.webgpu", str(path)]
        done = subprocess.run(
            [*command, "--inputs", str(given), "--outputs", str(found)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        adapter = ADAPTER.search(done.stderr)
        if adapter is None:
            raise click.ClickException("no GPU: LiteRT's WebGPU runtime found no adapter")
        if done.returncode:
            refused = sorted({match.group(0) for match in REFUSED.finditer(done.stderr)})
            raise click.ClickException(f"{path.name} is not taken whole: {'; '.join(refused)}")
        with np.load(found) as kept:
            return dict(kept), {"adapter": adapter[1], "backend": adapter[2]}


def answer(path: Path, given: Path, found: Path) -> None:
    """In a process of its own: compile a file for the GPU alone, run it once."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator

    model = CompiledModel.from_file(str(path), hardware_accel=HardwareAccelerator.GPU)
    (name,) = model.get_signature_list()
    with np.load(given) as inputs:
        taken = {key: model.create_input_buffer_by_name(name, key) for key in inputs}
        for key, buffer in taken.items():
            buffer.write(np.ascontiguousarray(inputs[key]))
    details = model.get_output_tensor_details(name)
    made = {key: model.create_output_buffer_by_name(name, key) for key in details}
    model.run_by_name(name, taken, made)
    values = {
        key: np.array(buffer.read(int(np.prod(details[key]["shape"])), np.float32))
        for key, buffer in made.items()
    }
    assert model.is_fully_accelerated()  # noqa: S101 it is refused otherwise
    shaped = {key: value.reshape(details[key]["shape"]) for key, value in values.items()}
    np.savez(found, **shaped)  # type: ignore[arg-type]


def compare(folder: Path) -> dict[str, Any]:
    """Both files of a bundle on a scene and a click, on the CPU and on the GPU."""
    opened = manifest.open_bundle(folder)
    contract = opened.contract
    side = contract.image_size
    image = scene(SEED, side * 3 // 4, side)
    inputs = prompts.encoder_inputs(image, contract)
    rows = {"encoder": _compared(opened, "encoder", inputs)}
    encoded = opened.predictor().embed(image)
    click_at = Prompt(((side / 2, side / 3, True),))
    asked = prompts.decoder_inputs(click_at, encoded.embeddings, encoded.size, contract)
    rows["decoder"] = _compared(opened, "decoder", asked)
    return {
        "target": opened.target,
        "recipe": opened.recipe_name,
        "image_size": side,
        "litert": version("ai-edge-litert"),
        "files": rows,
    }


def _compared(opened: manifest.Bundle, graph: str, inputs: dict[str, Array]) -> dict[str, Any]:
    path = opened.folder / f"{graph}.tflite"
    expected = opened.session(graph).run(inputs)
    found, runtime = run_on_gpu(path, inputs)
    errors = {name: float(np.abs(found[name] - value).max()) for name, value in expected.items()}
    largest = {name: float(np.abs(value).max()) for name, value in expected.items()}
    ops = len(tflite.describe(path).nodes)
    return {
        **runtime,
        "ops": ops,
        "ops_on_gpu": ops,  # all, or it would have been refused
        "max_abs_error": {name: float(f"{error:.2g}") for name, error in errors.items()},
        "largest_value": {name: float(f"{value:.3g}") for name, value in largest.items()},
    }


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--save", is_flag=True, help=f"Write {RESULT.name}.")
@click.option("--inputs", type=click.Path(path_type=Path), hidden=True)
@click.option("--outputs", type=click.Path(path_type=Path), hidden=True)
def main(path: Path, save: bool, inputs: Path | None, outputs: Path | None) -> None:
    """Run a bundle's files on the GPU and compare with the CPU."""
    if inputs is not None and outputs is not None:
        answer(path, inputs, outputs)
        return
    result = compare(path)
    click.echo(json.dumps(result, indent=2))
    if save:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
