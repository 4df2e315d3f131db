"""Run two files on stored inputs, in an environment that has a runtime and what that needs only.

`python runtime_probe.py KIND FOLDER` with an environment's own Python: KIND is a key of `OPENERS`,
FOLDER has encoder and decoder files and `cases.npz` from `benchmarks.runtimes`. Prints one JSON
object: for each graph either "refused" with the runtime's message, or its answers' errors.
Old runtimes need an old numpy: nothing of this package is imported.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
Run = Callable[[Arrays], Arrays]


def open_onnx(path: Path) -> Run:
    """An ONNX file in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


def open_tflite(path: Path) -> Run:
    """A TFLite file in whichever package the environment has."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter  # type: ignore[import-not-found]

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner(path.stem)
    return lambda inputs: runner(**inputs)


def open_opencv(path: Path) -> Run:
    """An ONNX file in OpenCV's dnn, which hands out its own buffers."""
    import cv2  # type: ignore[import-not-found]

    network = cv2.dnn.readNetFromONNX(str(path))
    names = network.getUnconnectedOutLayersNames()

    def run(inputs: Arrays) -> Arrays:
        for name, value in inputs.items():
            network.setInput(value, name)
        outputs = network.forward(names)
        return {name: output.copy() for name, output in zip(names, outputs, strict=True)}

    return run


def open_executorch(path: Path) -> Run:
    """An ExecuTorch program, whose tensors have an order and no names."""
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)

    def run(inputs: Arrays) -> Arrays:
        method = program.load_method("forward")
        first, *_ = method.execute([torch.from_numpy(value) for value in inputs.values()])
        return {FIRST_OUTPUTS[path.stem]: first.numpy().copy()}  # the memory is the method's

    return run


FIRST_OUTPUTS = {"encoder": "image_embeddings", "decoder": "low_res_masks"}
OPENERS = {
    "executorch": open_executorch,
    "onnxruntime": open_onnx,
    "opencv": open_opencv,
    "tflite": open_tflite,
}


def probe(
    path: Path, cases: Sequence[tuple[Arrays, Arrays, int]], opener: Callable[[Path], Run]
) -> Any:  # noqa: ANN401 JSON
    """How one file answers.

    Args:
        path: the file.
        cases: inputs, expected outputs, and the index of the chosen mask.
        opener: of the runtime.
    """
    answers = []
    try:
        run = opener(path)
        for inputs, expected, chosen in cases:
            answers.append(errors(run(inputs), expected, chosen))
    except Exception as exc:  # noqa: BLE001 whatever a runtime raises is its refusal
        message = str(exc).replace(f"{path.parent}/", "")
        return {"refused": " ".join(message.split())[:200]}
    return {key: min(item[key] for item in answers) for key in answers[0]}


def errors(found: Arrays, expected: Arrays, chosen: int) -> dict[str, float]:
    """PSNR in dB of an embedding, or IoU of the chosen mask at the decoder's own size."""
    if "image_embeddings" in expected:
        reference = expected["image_embeddings"]
        noise = float(np.sqrt(np.mean((found["image_embeddings"] - reference) ** 2)))
        peak = float(np.abs(reference).max())
        return {"embedding_psnr_db": 20 * float(np.log10(peak / max(noise, 1e-30)))}
    mask, reference = (side["low_res_masks"][0, chosen] > 0 for side in (found, expected))
    union = int((mask | reference).sum())
    return {"mask_iou": int((mask & reference).sum()) / union if union else 1.0}


def main() -> None:
    """Probe both graphs of the folder that is named."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    stored = np.load(folder / "cases.npz")
    plan = json.loads((folder / "cases.json").read_text())
    result = {}
    for graph, cases in plan.items():
        (path,) = folder.glob(f"{graph}.*")
        loaded = [
            (
                {name: stored[key] for name, key in case["inputs"].items()},
                {name: stored[key] for name, key in case["outputs"].items()},
                case["chosen"],
            )
            for case in cases
        ]
        result[graph] = probe(path, loaded, OPENERS[kind])
    print("PROBE " + json.dumps(result))


if __name__ == "__main__":
    main()
