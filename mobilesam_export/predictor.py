"""An encoder and a decoder that answer prompts, as SAM's predictor does: image and prompt -> mask.

The only place that encodes an image, decodes a prompt and chooses the mask, whatever runs the two
files. The input is H x W, as in `contract`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobilesam_export import prompts
from mobilesam_export.contract import Array, Contract
from mobilesam_export.contract.specs import apart_arrays, fused_arrays
from mobilesam_export.errors import ImageError
from mobilesam_export.prompts import ImageArray, Prompt
from mobilesam_export.session import Session


@dataclass(frozen=True)
class EmbeddedImage:
    """An image that the encoder has seen; all its prompts are answered from this.

    Attributes:
        embeddings: (1, 256, H/16, W/16) float32; of a fused predictor the input (1, 3, H, W).
        size: (height, width) of the image in pixels.
        prepared: what the file `prepare` made of it, by name; None where it was not asked.
    """

    embeddings: Array
    size: tuple[int, int]
    prepared: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt.

    Attributes:
        outputs: of the decoder, by name; see `Contract.decoder`.
        index: of the chosen mask among those in `outputs`.
        mask: (height, width) bool, of the image's size.
    """

    outputs: Mapping[str, Array]
    index: int
    mask: NDArray[np.bool_]

    @property
    def predicted_iou(self) -> float:
        """The model's own estimate of the mask's intersection over union, about 0..1."""
        return float(self.outputs["iou_predictions"][0, self.index])

    @property
    def low_res_mask(self) -> Array:
        """(1, 1, H/4, W/4) float32 logits of the chosen mask: a next prompt's `mask_input`."""
        chosen = self.outputs["low_res_masks"][:, self.index : self.index + 1]
        return np.ascontiguousarray(chosen)


@dataclass(frozen=True)
class Predictor:
    """An encoder and a decoder of one model, ready to run.

    Attributes:
        encoder: run once per image.
        decoder: run once per prompt.
        contract: of all.
        decoder_batch: answers several prompts in one run; None where there is none, or it is not
            needed.
        prepare: run once per image; None where there is none.
        decoder_prepared: runs in the decoder's place for prompts without a mask input, on what
            `prepare` made; there are both or neither.
        segmenter: the one file that stands behind encoder and decoder, see `whole`; None where each
            is one.

    Example:
        image = predictor.embed("photo.jpg")
        answer = predictor.predict(Prompt(points=((320, 240, True),)), image)
    """

    encoder: Session
    decoder: Session
    contract: Contract
    decoder_batch: Session | None = None
    prepare: Session | None = None
    decoder_prepared: Session | None = None
    segmenter: Session | None = None

    @property
    def fused(self) -> bool:
        """Whether one file is encoder and decoder, so that there are no embeddings."""
        return self.segmenter is not None

    def embed(self, image: ImageArray | Path | str) -> EmbeddedImage:
        """Run the encoder, and `prepare` if there is one.

        Args:
            image: (height, width, 3) uint8 RGB, or the path of an image file.

        Raises:
            ImageError: the file cannot be read, or the array is none of that form.
            BackendError: a file cannot be run.
        """
        if isinstance(image, str | Path):
            image = prompts.load_image(Path(image))
        _check_image(image)
        inputs = prompts.encoder_inputs(image, self.contract)
        embeddings = self.encoder.run(inputs)["image_embeddings"]
        return self.with_prepared(EmbeddedImage(embeddings, prompts.height_and_width(image)))

    def with_prepared(self, image: EmbeddedImage) -> EmbeddedImage:
        """The same with what `prepare` makes of it, if there is one; for embeddings of elsewhere.

        Raises:
            BackendError: the file cannot be run.
        """
        if self.prepare is None:
            return image
        prepared = self.prepare.run({"image_embeddings": image.embeddings})
        return replace(image, prepared=prepared)

    def predict(self, prompt: Prompt, image: EmbeddedImage) -> Answer:
        """Run the decoder and choose the mask.

        Args:
            prompt: in pixels of the image.
            image: from `embed`.

        Raises:
            UsageError: the prompt is empty, outside the image, or takes too many slots.
            BackendError: the decoder cannot be run.
        """
        return self.answer(prompt, self.decode(prompt, image), image.size)

    def decode(self, prompt: Prompt, image: EmbeddedImage) -> dict[str, Array]:
        """Run the decoder alone; arguments and errors of `predict`, outputs by name.

        `decoder_prepared` answers if there is one, the image is prepared, and the prompt has no
        mask input: with one, the first image is another than `prepare` has seen.
        """
        inputs = prompts.decoder_inputs(prompt, image.embeddings, image.size, self.contract)
        if self.decoder_prepared is None or image.prepared is None or prompt.mask_input is not None:
            return self.decoder.run(inputs)
        given = {**inputs, **image.prepared}
        names = [spec.name for spec in self.contract.decoder_prepared.inputs]
        return self.decoder_prepared.run({name: given[name] for name in names})

    def decode_all(
        self, asked: Sequence[Prompt], image: EmbeddedImage
    ) -> Iterator[dict[str, Array]]:
        """The outputs of `decode` for each prompt, as many per run as `decoder_batch` takes."""
        if self.decoder_batch is None:
            yield from (self.decode(prompt, image) for prompt in asked)
            return
        sets = self.contract.sets
        for start in range(0, len(asked), sets):
            part = asked[start : start + sets]
            inputs = prompts.batch_inputs(part, image.embeddings, image.size, self.contract)
            outputs = self.decoder_batch.run(inputs)
            for place in range(len(part)):
                yield {name: value[place : place + 1] for name, value in outputs.items()}

    def answer(self, prompt: Prompt, outputs: Mapping[str, Array], size: tuple[int, int]) -> Answer:
        """Choose among the decoder's masks and bring the chosen one to the image's size.

        Args:
            prompt: what the decoder was asked.
            outputs: of the decoder.
            size: (height, width) of the image.
        """
        if self.contract.dynamic:  # chosen and upscaled in the graph
            return Answer(outputs, 0, np.asarray(outputs["masks"][0, 0] > 0))
        iou = outputs["iou_predictions"]
        index = int(np.argmax(iou)) if self.contract.fused else chosen_index(prompt, iou)
        return Answer(outputs, index, self.mask(outputs, index, size))

    def mask(
        self, outputs: Mapping[str, Array], index: int, size: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """One of the decoder's masks at the image's size, (height, width)."""
        low_res = outputs["low_res_masks"][0, index]
        if self.decoder.mask:
            return self.decoder.mask(low_res, size, self.contract.size)
        return prompts.final_mask(low_res, size, self.contract)


def whole(segmenter: Session, contract: Contract) -> Predictor:
    """A predictor of the one file of a fused contract.

    Its `embed` only makes the input, which stands in the embedding's place, and its `predict` runs
    the file, encoder and all.
    """

    def keep(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"image_embeddings": inputs["image"]}

    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        given = {"image": inputs["image_embeddings"], **inputs}
        return apart_arrays(segmenter.run(fused_arrays(given)))

    return Predictor(
        replace(segmenter, run=keep, observe=None),
        replace(segmenter, run=run, observe=None),
        contract,
        segmenter=segmenter,
    )


def chosen_index(prompt: Prompt, iou_predictions: Array) -> int:
    """Which of the four masks answers the prompt: one click the best of 1..3, otherwise 0.

    As SAM's authors advise for `multimask_output` (`SamPredictor.predict`): several masks for an
    ambiguous prompt such as one click, a single one for any other.
    """
    if not prompt.single_click:
        return 0
    return 1 + int(np.argmax(np.ravel(iou_predictions)[1:]))


def _check_image(image: ImageArray) -> None:
    """Refuse what is no image, before a library says so in its own words."""
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
    elif image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        found = f"{image.shape} {image.dtype}"
    else:
        return
    raise ImageError(
        f"an image is a (height, width, 3) uint8 array of RGB or the path of a file, found {found}"
    )
