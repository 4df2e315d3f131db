"""Another tool's int8 of our float32 ONNX encoder, run in that tool's own environment.

`PYTHON benchmarks/baseline_tool.py TOOL FOLDER OUT.onnx`, TOOL one of TOOLS, reads `encoder.onnx`,
`decoder.onnx` and `samples.npz` in FOLDER, which `benchmarks.baselines` writes. It needs the tool,
numpy, onnx and onnxruntime, and nothing of ours.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

MAX_DROP = 0.01  # of the mean mask IoU, absolute: what may be lost before layers are given back
ADAROUND_ITERATIONS = 1_000  # for each layer; AIMET's default is 10,000
MIXED_IMAGES = 3  # whose masks rank the groups of AIMET's mixed precision, 400 times
Arrays = dict[str, np.ndarray[Any, Any]]


def opened(model: Any) -> onnxruntime.InferenceSession:  # noqa: ANN401 a path or onnx's
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class Samples:
    """Images, and of each the prompts that the decoder is asked with and PyTorch's masks."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "samples.npz") as kept:
            self.arrays = {name: kept[name] for name in kept.files}
        self.decoder = opened(str(folder / "decoder.onnx"))

    def images(self) -> Iterator[Arrays]:
        """The encoder's inputs."""
        for image in self.arrays["image"]:
            yield {"image": image}

    def score(self, model: onnx.ModelProto, _: Iterable[Any] = ()) -> tuple[float, list[float]]:
        """Mean IoU of the masks with PyTorch's, over all, and of each image."""
        return self.score_of(opened(model))

    def score_of(
        self, session: onnxruntime.InferenceSession, images: int | None = None
    ) -> tuple[float, list[float]]:
        """The same of an open encoder, of the first so many images."""
        of_images = []
        for number, inputs in enumerate(islice(self.images(), images)):
            (embeddings,) = session.run(["image_embeddings"], inputs)
            mine = np.flatnonzero(self.arrays["of_image"] == number)
            of_images.append(float(np.mean([self._iou(embeddings, int(place)) for place in mine])))
        return float(np.mean(of_images)), of_images

    def _iou(self, embeddings: np.ndarray[Any, Any], place: int) -> float:
        names = [item.name for item in self.decoder.get_inputs()]
        inputs = {n: self.arrays[n][place] for n in names if n != "image_embeddings"}
        (masks,) = self.decoder.run(["low_res_masks"], {**inputs, "image_embeddings": embeddings})
        found = masks[0, self.arrays["mask_index"][place]] > 0
        expected = self.arrays["mask"][place]
        return float((found & expected).sum() / max(1, (found | expected).sum()))


def nncf_model(model: onnx.ModelProto, samples: Samples) -> onnx.ModelProto:
    """`quantize_with_accuracy_control`, for transformers."""
    import nncf

    dataset = nncf.Dataset(list(samples.images()))
    quantized: onnx.ModelProto = nncf.quantize_with_accuracy_control(
        model,
        dataset,
        dataset,
        samples.score,
        max_drop=MAX_DROP,
        model_type=nncf.ModelType.TRANSFORMER,
    )
    return quantized


def aimet_model(model: onnx.ModelProto, samples: Samples) -> onnx.ModelProto:
    """Scales by sequential MSE, weights by AdaRound, then the ranges of activations."""
    from aimet_onnx import apply_adaround, apply_seq_mse
    from aimet_onnx.quantsim import QuantizationSimModel

    inputs = list(samples.images())
    simulation = QuantizationSimModel(model)
    apply_seq_mse(simulation, inputs)
    apply_adaround(simulation, inputs, num_iterations=ADAROUND_ITERATIONS)
    simulation.compute_encodings(inputs)
    quantized: onnx.ModelProto = simulation.to_onnx_qdq()
    return quantized


def aimet_mixed_model(model: onnx.ModelProto, samples: Samples) -> onnx.ModelProto:
    """AIMET's automatic mixed precision: activations of 16 bits where 8 lose too much."""
    from aimet_onnx import mixed_precision
    from aimet_onnx.quantsim import QuantizationSimModel

    inputs, limit = list(samples.images()), samples.score(model)[0] - MAX_DROP
    simulation = QuantizationSimModel(model)
    sensitivities = mixed_precision.analyze_mixed_precision_sensitivity(
        simulation,
        [mixed_precision.w8a16, mixed_precision.w8a8],
        lambda session: samples.score_of(session, MIXED_IMAGES)[0],
        inputs,
    )
    mixed_precision.apply_amp(
        simulation, sensitivities, lambda session: samples.score_of(session)[0] >= limit
    )
    quantized: onnx.ModelProto = simulation.to_onnx_qdq()
    return quantized


TOOLS = {"nncf": nncf_model, "aimet": aimet_model, "aimet-mixed": aimet_mixed_model}


def main() -> None:
    """Quantize, write, and print what it came to in one line of JSON."""
    tool, folder, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    samples = Samples(folder)
    model = onnx.load(folder / "encoder.onnx")
    before, start = samples.score(model)[0], time.process_time()
    quantized = TOOLS[tool](model, samples)
    seconds = time.process_time() - start
    onnx.save(quantized, out)
    after = samples.score(quantized)[0]
    print(json.dumps({"seconds": seconds, "calibration_iou": [before, after]}))


if __name__ == "__main__":
    main()
