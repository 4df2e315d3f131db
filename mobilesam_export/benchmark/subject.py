"""The components to measure: a bundle's files on one device, as tasks with checked answers.

encoder          the encoder file, on a preprocessed image
decoder          the decoder file, on an embedding and an encoded prompt
preprocess       a decoded image -> the encoder's input (resize, pad)
postprocess      the decoder's output -> a mask of the image's size
click_to_mask    a prompt -> a mask, the embedding at hand and prepared if the bundle has `prepare`:
                 prompt, decoder (`decoder_prepared` if it is there), postprocess
image_to_mask  everything: preprocess, encoder, click_to_mask
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam_export import prompts
from mobilesam_export.benchmark.timing import Task
from mobilesam_export.contract import Array, Contract
from mobilesam_export.metrics import mask_iou, psnr_db
from mobilesam_export.predictor import EmbeddedImage, Predictor
from mobilesam_export.session import Session
from mobilesam_export.target import Tolerance
from mobilesam_export.verification.cases import ImageCase, logits_spread

COMPONENTS = (
    "encoder",
    "decoder",
    "preprocess",
    "postprocess",
    "click_to_mask",
    "image_to_mask",
)
GRAPHS = ("encoder", "decoder")


@dataclass(frozen=True)
class LoadedSubject:
    """Files that are ready to run, and the reference for their answers.

    Attributes:
        predictor: the files.
        case: the image, its first prompt, and PyTorch's answers.
        tolerance: largest allowed errors.
    """

    predictor: Predictor
    case: ImageCase
    tolerance: Tolerance

    def tasks(self, components: Sequence[str]) -> dict[str, Task]:
        """The named components as tasks for the clock."""
        case, predictor, contract = self.case, self.predictor, self.predictor.contract
        prompt, embedded = case.prompts[0].prompt, _read_only(case.embedded)
        outputs, prepared = case.prompts[0].answer.outputs, predictor.with_prepared(embedded)

        def click(image: EmbeddedImage) -> Any:  # noqa: ANN401 a mask
            return predictor.predict(prompt, image).mask

        tasks = {
            "encoder": self._file_task("encoder", self._check_embeddings()),
            "decoder": self._file_task("decoder", self._check_masks()),
            "preprocess": Task(lambda: prompts.encoder_inputs(case.image, contract)),
            "postprocess": Task(lambda: predictor.answer(prompt, outputs, embedded.size)),
            "click_to_mask": Task(lambda: click(prepared), self._check_mask),
            "image_to_mask": Task(lambda: click(predictor.embed(case.image)), self._check_mask),
        }
        return {name: tasks[name] for name in components}

    def _file_task(self, graph: str, check: Callable[[dict[str, Array]], str]) -> Task:
        """One file alone; on a device with its own memory, without the transfers."""
        session: Session = getattr(self.predictor, graph)
        inputs = graph_inputs(self.case, self.predictor.contract, graph)
        if session.resident is None:
            return Task(lambda: session.run(inputs), check)
        call, fetch = session.resident(inputs)
        return Task(call, lambda _: check(fetch()))

    def _check_embeddings(self) -> Callable[[dict[str, Array]], str]:
        def judge(outputs: dict[str, Array]) -> str:
            psnr = psnr_db(np.asarray(outputs["image_embeddings"]), self.case.embeddings)
            limit = self.tolerance.embedding_psnr_db
            accurate = psnr >= limit  # NaN is not
            return "" if accurate else f"embedding PSNR {psnr:.1f} dB, expected >= {limit:g}"

        return _once(judge)

    def _check_masks(self) -> Callable[[dict[str, Array]], str]:
        expected = self.case.prompts[0].answer.outputs["low_res_masks"]

        def judge(outputs: dict[str, Array]) -> str:
            error = float(np.abs(outputs["low_res_masks"].astype(np.float64) - expected).max())
            limit = self.tolerance.logits_error * logits_spread([self.case])
            return "" if error <= limit else f"mask logits {error:.2g} off, expected <= {limit:.2g}"

        return _once(judge)

    def _check_mask(self, mask: Any) -> str:  # noqa: ANN401 a mask
        iou, limit = mask_iou(mask, self.case.prompts[0].answer.mask), self.tolerance.mask_iou
        return "" if iou >= limit else f"mask IoU {iou:.4f}, expected >= {limit:g}"


def _read_only(image: EmbeddedImage) -> EmbeddedImage:
    """The same, so that a device may keep its own copy from one click to the next."""
    embeddings = image.embeddings.view()
    embeddings.setflags(write=False)
    return EmbeddedImage(embeddings, image.size)


def graph_inputs(case: ImageCase, contract: Contract, graph: str) -> dict[str, Array]:
    """The inputs on which encoder or decoder is timed: the image, or its first prompt."""
    if graph == "encoder":
        return prompts.encoder_inputs(case.image, contract)
    image = case.embedded
    return prompts.decoder_inputs(case.prompts[0].prompt, image.embeddings, image.size, contract)


def _once(judge: Callable[[dict[str, Array]], str]) -> Callable[[dict[str, Array]], str]:
    """Judge the first answer, and any later one that is not bit-identical to it."""
    first: dict[str, Array] = {}

    def check(outputs: dict[str, Array]) -> str:
        if first and all(np.array_equal(first[name], outputs[name]) for name in first):
            return ""
        if not first:
            first.update({name: np.array(value) for name, value in outputs.items()})
        return judge(outputs)

    return check
